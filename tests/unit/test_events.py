"""Events on their way out: into an envelope, into bytes, and never changed."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from pydantic import ValidationError

from schemas.envelope import Envelope, enclose, parse, serialise
from schemas.event import Event, TooLarge
from schemas.facts import AlertRaised, PolicyRefreshed
from schemas.identifiers import Audience, Severity, Slot
from schemas.requests import AssignmentRequested, MoveRequested

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def _enclosed(event: Event, time: datetime = NOW) -> Envelope:
    return enclose(event, event_id="one", source="urn:test", time=time, correlation=None, causation=None)


def test_enclose() -> None:
    """An enclosed event comes out of its bytes equal, with its time in UTC."""
    event = MoveRequested(mailbox="anna@contoso.example")
    elsewhere = NOW.astimezone(timezone(timedelta(hours=2)))
    envelope = _enclosed(event, elsewhere)

    assert (envelope, event) == parse(serialise(envelope))
    assert b'"time":"2026-01-02T03:04:05Z"' in serialise(envelope)
    assert serialise(_enclosed(event)) == serialise(envelope)


def test_longest_subject() -> None:
    """The longest mailbox address that is allowed can be the subject of an event."""
    address = "a" * 64 + "@" + "b" * 255

    assert address == parse(serialise(_enclosed(MoveRequested(mailbox=address))))[0].subject


def test_never_sends_too_much() -> None:
    """An event over the limit is refused by its sender already."""
    addresses = tuple(f"{number:064}@{'b' * 200}" for number in range(500))

    with pytest.raises(TooLarge):
        serialise(_enclosed(AssignmentRequested(policy="p", mailboxes=addresses)))


def test_naive_time() -> None:
    """An event can't be sent with a time that means another moment elsewhere."""
    with pytest.raises(ValidationError, match="offset from UTC"):
        _enclosed(MoveRequested(mailbox="a@b"), NOW.replace(tzinfo=None))


def test_detail_is_cleaned() -> None:
    """What a vault said can't keep an alert from leaving: control characters go, and it is cut at its limit."""
    said = "bad\x1b[2J\nthing" + "x" * 2000
    alert = AlertRaised(
        kind="dead-letter", severity=Severity.INFO, audience=Audience.ENGINEERING, tenant="provider", detail=said
    )

    assert "bad [2J thing" == alert.detail[:13]
    assert 1000 == len(alert.detail)
    assert alert == parse(serialise(_enclosed(alert)))[1]


def test_frozen() -> None:
    """Nobody changes an event, its maps included, after it was made."""
    event = PolicyRefreshed(policy="p", version=1, tenant="t", generation=1, key_versions={Slot.A: "1"})

    with pytest.raises(ValidationError, match="frozen"):
        event.policy = "q"  # type: ignore[misc]  # what the type checker refuses is tried on purpose
    with pytest.raises(TypeError):
        event.key_versions[Slot.A] = "2"  # type: ignore[index]  # as above
    with pytest.raises(ValidationError, match="frozen"):
        _enclosed(event).id = "two"  # type: ignore[misc]  # as above
