"""Names of what a request makes, so that a repeat of the request finds it again."""

from events.handler import Asked
from twinlock.custody.naming import made_by


def name_of(asked: Asked) -> str:
    """Derive a name from a request's source and id: only both together tell it from every other request."""
    return made_by(asked.source, asked.id)
