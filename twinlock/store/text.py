"""Text from outside, such as what a vault or a broken message said, as a column can hold it."""

from sqlalchemy import Column, String


def storable(text: str, most: int) -> str:
    """Return at most `most` characters of a text, with what PostgreSQL refuses (NUL, half of a pair) replaced."""
    return text[:most].encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def fitting(text: str, column: Column[str]) -> str:
    """Return what a column can hold of a text."""
    assert isinstance(column.type, String)  # noqa: S101  # narrows the type: only texts have a length
    return storable(text, column.type.length or len(text))
