"""The dead-letter table."""

import pytest
from sqlalchemy import select

from events.dead_letters import UnknownLetter, bury, listing, named, retry
from events.embedded import EmbeddedTransport
from events.transport import Message
from schemas.envelope import parse
from schemas.facts import AlertRaised, DeliveryDeadLettered, PolicyCreated
from twinlock.clock import ManualClock
from twinlock.store.tables.bus import deliveries, outbox
from twinlock.store.unit import Cause, Store

LETTER = Message("local", "urn:x", "e-1", PolicyCreated.type, "c", b"body")


async def dig(store: Store, message: Message = LETTER, consumer: str = "one", reason: str = "no hope") -> None:
    async with store.begin(Cause("elsewhere")) as unit:
        await bury(unit, consumer, message, 3, reason)


async def numbers(store: Store) -> list[int]:
    async with store.read() as reader:
        return [letter.number for letter in await listing(reader)]


async def test_listing(store: Store, clock: ManualClock) -> None:
    """A letter tells who gave up on what, when and why, and not what was in it."""
    await dig(store)
    async with store.read() as reader:
        (letter,) = await listing(reader)

    assert ("one", "e-1", PolicyCreated.type, 3, "no hope") == (
        letter.consumer,
        letter.id,
        letter.type,
        letter.attempts,
        letter.reason,
    )
    assert clock.now() == letter.at
    assert "body" not in repr(letter)


async def test_telling(store: Store) -> None:
    """The fleet and the engineers are told under the letter's own correlation, caused by the letter's event."""
    await dig(store)
    async with store.read() as reader:
        told = [parse(row.body) for row in await reader.rows(select(outbox).order_by(outbox.c.number))]
    (dead, _), (alert, raised) = told

    assert [DeliveryDeadLettered.type, AlertRaised.type] == [dead.type, alert.type]
    assert [("c", "e-1")] * 2 == [(envelope.correlation, envelope.causationid) for envelope, _ in told]
    assert isinstance(raised, AlertRaised)
    assert ("dead-letter", "provider", "engineering") == (raised.kind, raised.tenant, raised.audience)


async def test_rubbish_names(store: Store) -> None:
    """A letter whose names are rubbish is still buried and told, under names that are safe to publish."""
    rubbish = Message("local", "urn:x", "", "\x00 no type", "c" * 300, b"\xff")
    await dig(store, rubbish, reason="r" * 5000)
    async with store.read() as reader:
        (letter,) = await listing(reader)
        (_, dead), _alert = [parse(row.body) for row in await reader.rows(select(outbox).order_by(outbox.c.number))]

    assert isinstance(dead, DeliveryDeadLettered)
    assert (named(""), named("\x00 no type")) == (dead.event, dead.event_type)
    assert 500 == len(letter.reason)


async def test_retry_all(store: Store, clock: ManualClock) -> None:
    """Retrying puts every letter back for its consumer alone, with its attempts forgotten, and empties the table."""
    await dig(store)
    await dig(store, consumer="two")
    async with store.begin(Cause("retry")) as unit:
        count = await retry(unit)
    transport = EmbeddedTransport(store, clock, {})
    back = [await anext(transport.deliveries(consumer, 1)) for consumer in ("one", "two")]

    assert 2 == count
    assert [(LETTER, 0)] * 2 == [(incoming.message, incoming.attempts) for incoming in back]
    assert [] == await numbers(store)


async def test_retry_some(store: Store) -> None:
    """Retrying some letters leaves the others."""
    await dig(store)
    await dig(store, consumer="two")
    first, second = await numbers(store)
    async with store.begin(Cause("retry")) as unit:
        count = await retry(unit, [first])

    assert 1 == count
    assert [second] == await numbers(store)


async def test_retry_unknown(store: Store) -> None:
    """An unknown id is named, and nothing is retried at all."""
    await dig(store)
    (first,) = await numbers(store)
    with pytest.raises(UnknownLetter, match="no dead letter has the id 98, 99"):
        await _retry(store, [first, 99, 98])

    assert [first] == await numbers(store)
    async with store.read() as reader:
        assert [] == await reader.rows(select(deliveries))


async def _retry(store: Store, wanted: list[int]) -> None:
    async with store.begin(Cause("retry")) as unit:
        await retry(unit, wanted)


async def test_retry_nothing(store: Store) -> None:
    """Retrying an empty table is no error."""
    async with store.begin(Cause("retry")) as unit:
        assert 0 == await retry(unit)


async def test_other_body_before_the_first_is_handled(store: Store, clock: ManualClock) -> None:
    """A second body for a delivery that still waits becomes a dead letter at once and does not vanish (law 11)."""
    transport = EmbeddedTransport(store, clock, {PolicyCreated.type: ("one",)})
    forged = Message("local", "urn:x", "e-1", PolicyCreated.type, "c", b"forged")
    await transport.publish([LETTER])
    await transport.publish([LETTER])
    none_yet = await numbers(store)
    await transport.publish([forged])
    incoming = await anext(transport.deliveries("one", 1))

    assert [] == none_yet
    assert 1 == len(await numbers(store))
    assert b"body" == incoming.message.body


async def test_unrouted_is_counted(store: Store, clock: ManualClock) -> None:
    """Events that no consumer takes are counted."""
    transport = EmbeddedTransport(store, clock, {})
    await transport.publish([LETTER, LETTER])

    assert 2 == transport.unrouted
