"""What is still under way for a correlation."""

from datetime import datetime, timedelta

import pytest
from sqlalchemy import delete, insert

from events.answers import answer
from events.authority.records import write
from events.dead_letters import bury
from events.handler import Asked
from events.quiet import Pending, pending
from events.transport import Message
from schemas.facts import ReencryptionWoken
from schemas.identifiers import RequestOutcome
from schemas.requests import RefreshRequested
from twinlock.clock import ManualClock
from twinlock.store.tables.bus import dead_letters, deliveries
from twinlock.store.tables.work import jobs
from twinlock.store.unit import Cause, Store, Unit


async def look(store: Store, correlation: str = "c") -> Pending:
    async with store.read() as reader:
        return await pending(reader, correlation, store.clock.now())


async def add_delivery(unit: Unit, event_id: str, delay: float) -> None:
    row = {"consumer": "one", "publisher": "local", "source": "urn:x", "id": event_id, "type": "t", "body": b""}
    await unit.execute(insert(deliveries).values(**row, correlation="c", attempts=0, not_before=_later(unit, delay)))


async def add_job(unit: Unit, job_id: str, delay: float) -> None:
    row = {"id": job_id, "worker": "w", "kind": "k", "tenant_id": "t", "payload": {}, "total": 0, "done": 0}
    row |= {"trouble": "", "fencing": 0, "turn": 0, "correlation": "c"}
    await unit.execute(insert(jobs).values(**row, created_at=unit.clock.now(), not_before=_later(unit, delay)))


def _later(unit: Unit, delay: float) -> datetime:
    return unit.clock.now() + timedelta(seconds=delay)


async def test_quiet(store: Store) -> None:
    """A correlation of which nothing is left is quiet."""
    found = await look(store)

    assert Pending(0, 0, 0, 0, 0, 0) == found
    assert found.quiet


@pytest.mark.parametrize("where", ["outbox", "deliveries", "jobs"])
async def test_not_quiet(store: Store, where: str) -> None:
    """One event, delivery or job that is left keeps its correlation, and no other, from being quiet."""
    async with store.begin(Cause("c")) as unit:
        if where == "outbox":
            unit.emit(ReencryptionWoken(slot=0))
        elif where == "deliveries":
            await add_delivery(unit, "1", 0.0)
        else:
            await add_job(unit, "1", 0.0)
    found = await look(store)

    assert 1 == getattr(found, where)
    assert not found.quiet
    assert (await look(store, "other")).quiet


async def test_delayed(store: Store, clock: ManualClock) -> None:
    """What waits for a later time is pending and reported apart, until its time has come."""
    async with store.begin(Cause("c")) as unit:
        await add_delivery(unit, "1", 0.0)
        await add_delivery(unit, "2", 30.0)
        await add_job(unit, "1", 10.0)
    early = await look(store)
    clock.advance(30.0)
    late = await look(store)

    assert Pending(0, 2, 1, 2, 0, 0) == early
    assert Pending(0, 2, 1, 0, 0, 0) == late


async def test_dead_letters_are_not_waited_for(store: Store) -> None:
    """A dead letter is reported, and does not keep its correlation from being quiet."""
    message = Message("local", "urn:x", "1", "twinlock.alert.raised.v1", "c", b"")
    async with store.begin(Cause("c")) as unit:
        await bury(unit, "one", message, 1, "no hope")
    found = await look(store)

    assert 1 == found.dead_letters
    assert found.quiet


async def add_request(store: Store, request_id: str) -> Message:
    """Write the record of a request that travels on a broker: it is in no other table."""
    message = Message("portal", "urn:x", request_id, RefreshRequested.type, "c", b"{}")
    async with store.begin(Cause("c")) as unit:
        await write(unit, message, accepted=True)
    return message


async def test_request_on_a_broker(store: Store) -> None:
    """A request without an outcome keeps its correlation, and no other, from being quiet, until it has one."""
    message = await add_request(store, "1")
    before, other = await look(store), await look(store, "other")
    asked = Asked(message.source, message.id, message.type)
    async with store.begin(Cause("answering")) as unit:
        await answer(unit, asked, RequestOutcome.DONE, {}, "")
    after = await look(store)

    assert (1, False) == (before.requests, before.quiet)
    assert other.quiet
    assert (0, True) == (after.requests, after.quiet)


async def test_request_that_was_given_up(store: Store) -> None:
    """A request that is a dead letter is not waited for; another one is, and so is a redriven one."""
    message = await add_request(store, "1")
    async with store.begin(Cause("burying")) as unit:
        await bury(unit, "one", message, 1, "no hope")
    given_up = await look(store)
    await add_request(store, "2")
    another = await look(store)
    async with store.begin(Cause("retrying")) as unit:
        await unit.execute(delete(dead_letters))
    redriven = await look(store)

    assert (0, 1) == (given_up.requests, given_up.dead_letters)
    assert (1, 2) == (another.requests, redriven.requests)
