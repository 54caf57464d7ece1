"""docs/threat-model.md tells of every part, and the tests that it names exist."""

import ast
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from workers.roster import ROSTER

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
PARTS: Mapping[str, str] = dict(re.findall(r"^### (.+?)\n\n(.+?)(?=\n\n#|\Z)", PAGE, re.MULTILINE | re.DOTALL))
_NAMED = re.compile(r"`(tests/[a-z0-9_/]+\.py)(?:::(test_\w+))?`")


def claims(part: str) -> list[str]:
    """Return what is said of a part, point by point."""
    return [" ".join(each.split()) for each in re.split(r"^- ", PARTS[part], flags=re.MULTILINE)[1:]]


def test_workers() -> None:
    """Every worker has its part."""
    assert set(ROSTER) <= set(PARTS)


@pytest.mark.parametrize("part", PARTS)
def test_part(part: str) -> None:
    """Of every part is said what it can, what it can't and how it is noticed; and what it can't has a test."""
    said = claims(part)

    assert ["Can", "Can't", "Noticed"] == list(dict.fromkeys(each.split("**")[1] for each in said))
    for each in said:
        assert not each.startswith("**Can't**") or _NAMED.search(each), each


def test_named() -> None:
    """Every test that is named is there."""
    named = set(_NAMED.findall(PAGE))

    assert named
    for path, name in named:
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        tests = {each.name for each in tree.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert name in {"", *tests}, f"{path}::{name}"
