"""Names of what a request makes: a repeat finds it again, and the custodian can tell which request it is of."""

from uuid import NAMESPACE_URL, uuid5


def made_by(source: str, request_id: str) -> str:
    """Derive a name from a request's source and id: only both together tell it from every other request."""
    return uuid5(NAMESPACE_URL, f"{source}#{request_id}").hex
