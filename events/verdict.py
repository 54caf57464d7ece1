"""What becomes of a delivery whose handling failed: one pure function of the failure and the attempts so far."""

from dataclasses import dataclass

from events.authority.admission import NotProducer, Refused
from events.handler import Rejected, TryLater
from events.inbox import Conflict
from events.ladder import Ladder
from schemas.event import MessageRefused


@dataclass(frozen=True, slots=True)
class Retry:
    """Deliver it again after `delay` seconds."""

    delay: float
    reason: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Send it to the dead letters."""

    reason: str


@dataclass(frozen=True, slots=True)
class Reject:
    """Refuse what came from outside: it must not fill our tables."""

    reason: str


Verdict = Retry | GiveUp | Reject


class DeadlinePassed(Exception):
    """Say that a handler did not finish in time."""


class NoHandler(Exception):
    """Say that a consumer was sent an event that it has no handler for."""


FUTURE = "from the future"
UNWANTED = (MessageRefused, Conflict, NoHandler, NotProducer)


def judge(error: Exception, attempts: int, ladder: Ladder) -> Verdict:
    """Decide by the failure; every reason is free of secrets, so of an unforeseen failure only its class is told."""
    if isinstance(error, Refused):
        return Reject(error.reason)
    if isinstance(error, UNWANTED):
        return GiveUp(parked(error))
    if isinstance(error, Rejected):
        return GiveUp(error.reason)
    if isinstance(error, TryLater):
        return _later(ladder.delay(attempts), error.delay, error.reason)
    return _later(ladder.delay(attempts), None, type(error).__name__)


def told(error: Exception) -> str:
    """Say what is wrong with a message that should not have been sent: one of `UNWANTED`."""
    if isinstance(error, MessageRefused):
        return f"{error.reason}: {error.detail}"
    if isinstance(error, NotProducer):
        return error.reason
    if isinstance(error, NoHandler):
        return "no-handler: the consumer does not handle events of this type"
    return f"conflict: {error}"


def parked(error: Exception) -> str:
    """Say why a message of the fleet's own is put aside: one that a newer worker wrote waits for that worker."""
    if isinstance(error, MessageRefused) and error.later:
        return f"{FUTURE}: {told(error)}; upgrade this worker, then: twinlock dlq retry"
    return told(error)


def _later(tier: float | None, own: float | None, reason: str) -> Verdict:
    # A handler's own delay replaces the time of its tier, not its place: the ladder still ends.
    if tier is None:
        return GiveUp(reason)
    return Retry(tier if own is None else own, reason)
