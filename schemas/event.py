"""The base of every event, and the exact ways in which a message can be refused."""

from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, StringConstraints

TYPE_PATTERN = r"^twinlock\.[a-z][a-z-]*\.[a-z][a-z-]*\.v[0-9]+$"
EventType = Annotated[str, StringConstraints(pattern=TYPE_PATTERN)]


class Event(BaseModel):
    """Carry what happened or what is asked for; never key material, never content.

    A changed meaning is a new version of the type; a reader ignores fields that it does not know.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: ClassVar[str]

    @property
    def subject(self) -> str:
        """Name the entity that the event is about."""
        raise NotImplementedError(type(self).__name__)


class MessageRefused(Exception):
    """Refuse a message, with a reason that is safe to publish: it names fields, never their values.

    `later`: a newer program may well read it.
    """

    reason: ClassVar[str]

    def __init__(self, detail: str, *, later: bool = False) -> None:
        super().__init__(detail)
        self.detail = detail
        self.later = later


class TooLarge(MessageRefused):
    """Refuse a message over the size limit, before it is parsed."""

    reason = "too-large"


class Malformed(MessageRefused):
    """Refuse what is not a CloudEvents 1.0 JSON envelope, or whose data does not fit its type."""

    reason = "malformed"


class UnknownType(MessageRefused):
    """Refuse a type that nobody defined."""

    reason = "unknown-type"


class UnknownVersion(MessageRefused):
    """Refuse a known type in a version that this program does not read."""

    reason = "unknown-version"
