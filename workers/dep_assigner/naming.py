"""Names of what a request makes, so that a repeat of the request finds it again."""

from uuid import NAMESPACE_URL, uuid5

from events.handler import Asked


def name_of(asked: Asked) -> str:
    """Derive a name from a request's source and id: only both together tell it from every other request."""
    return uuid5(NAMESPACE_URL, f"{asked.source}#{asked.id}").hex
