"""The retry ladder and the judgement of failures."""

import pytest

from events.handler import Rejected, TryLater
from events.inbox import Conflict
from events.ladder import Ladder
from events.verdict import GiveUp, NoHandler, Retry, judge
from schemas.event import TooLarge, UnknownType

LADDER = Ladder(jitter=lambda: 0.0)


def test_tiers() -> None:
    """The waits grow from seconds to an hour, and then the ladder ends."""
    delays = [LADDER.delay(attempts) for attempts in range(7)]

    assert [5.0, 30.0, 120.0, 600.0, 3600.0, None, None] == delays


def test_jitter_shortens() -> None:
    """Jitter takes at most a fifth away and adds nothing, so that a delay names its tier."""
    delay = Ladder(jitter=lambda: 0.999999).delay(0)

    assert delay is not None
    assert 4.0 < delay < 4.001


def test_default_jitter_stays_inside() -> None:
    """The default source of chance keeps to the bounds."""
    delays = [Ladder().delay(1) for _ in range(100)]

    assert all(delay is not None and 24.0 < delay <= 30.0 for delay in delays)


def test_try_later_follows_the_ladder() -> None:
    """A handler that asks for later gets the tier of its attempts."""
    assert Retry(30.0, "busy") == judge(TryLater("busy"), 1, LADDER)


def test_own_delay() -> None:
    """A handler's own delay replaces the tier's time."""
    assert Retry(1.5, "busy") == judge(TryLater("busy", delay=1.5), 4, LADDER)


@pytest.mark.parametrize("error", [TryLater("busy"), TryLater("busy", delay=1.0)])
def test_try_later_ends_with_the_ladder(error: TryLater) -> None:
    """Asking for later dead-letters at the ladder's end, and not before it."""
    verdicts = [judge(error, attempts, LADDER) for attempts in range(6)]

    assert [False] * 5 + [True] == [verdict == GiveUp("busy") for verdict in verdicts]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Rejected("policy-gone"), "policy-gone"),
        (TooLarge("the message has 9 bytes"), "too-large: the message has 9 bytes"),
        (UnknownType("no event of this type is defined"), "unknown-type: no event of this type is defined"),
        (Conflict(), "conflict: the same source and id came before with another body"),
        (NoHandler(), "no-handler: the consumer does not handle events of this type"),
    ],
)
def test_hopeless(error: Exception, reason: str) -> None:
    """What no repetition can cure is given up at once, with its reason."""
    assert GiveUp(reason) == judge(error, 0, LADDER)


def test_unforeseen_failures_keep_their_secrets() -> None:
    """An unforeseen failure climbs the ladder, and its reason is the class name alone."""
    error = ValueError("the key is hunter2")

    assert Retry(5.0, "ValueError") == judge(error, 0, LADDER)
    assert GiveUp("ValueError") == judge(error, 5, LADDER)
