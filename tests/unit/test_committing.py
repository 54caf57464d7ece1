"""Commits in one transaction: many together, and the failure of one never another's."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import Column, MetaData, String, Table, insert, select

from events.committing import Committing, Prepared, Run
from events.handler import Received
from events.inbox import Entry
from events.transport import Message
from schemas.envelope import enclose, serialise
from schemas.event import Event
from schemas.facts import ReencryptionWoken
from twinlock.crashpoints import CrashPoint, arm
from twinlock.store.tables.bus import inbox, outbox
from twinlock.store.unit import StaleRead, Store, Unit

changes = Table("batched", MetaData(), Column("event", String, nullable=False))


class Writing:
    """Write a row and an event for each plan; a plan in `stale` fails."""

    consumer = "worker"
    handles: type[Event] = ReencryptionWoken

    def __init__(self) -> None:
        self.stale: set[str] = set()
        self.order: list[str] = []

    async def prepare(self, _event: Event, received: Received) -> str:
        """Do nothing."""
        return received.envelope.id

    async def commit(self, unit: Unit, plan: str) -> None:
        """Write."""
        self.order.append(plan)
        if plan in self.stale:
            raise StaleRead
        await unit.execute(insert(changes).values(event=plan))
        unit.emit(ReencryptionWoken(slot=0), event_id=f"after-{plan}")


@pytest.fixture(autouse=True)
async def _changes(store: Store) -> None:
    async with store.engine.begin() as connection:
        await connection.run_sync(changes.metadata.create_all)


def prepared(store: Store, handler: Writing, event_id: str) -> Prepared:
    event = ReencryptionWoken(slot=0)
    envelope = enclose(
        event, event_id=event_id, source="s", time=store.clock.now(), correlation=f"c-{event_id}", causation=None
    )
    message = Message("local", "s", event_id, event.type, envelope.correlation, serialise(envelope))
    incoming: Any = None  # committing does not settle what is not joined
    run = Run(incoming, None, handler, event, Received(envelope, "local"), Entry.of("worker", message))
    return Prepared(run, event_id)


async def commit_all(store: Store, handler: Writing, *ids: str) -> dict[str, str]:
    """Commit at the same moment and return the failures."""
    committing, failed = Committing(store), {}

    async def one(event_id: str) -> None:
        try:
            await committing(prepared(store, handler, event_id))
        except StaleRead:
            failed[event_id] = "stale"

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for event_id in ids:
            group.create_task(one(event_id))
    return failed


async def column(store: Store, of: Any) -> list[Any]:
    async with store.read() as reader:
        return sorted(row[0] for row in await reader.rows(select(of)))


async def test_one_transaction_for_many(store: Store) -> None:
    """What is ready together is one transaction: two lanes begin, the others share; each has its cause."""
    commits: list[None] = []
    arm(CrashPoint.AFTER_COMMIT, lambda: commits.append(None))
    failed = await commit_all(store, Writing(), *"abcdefgh")

    assert {} == failed
    assert len(commits) < len("abcdefgh")
    assert list("abcdefgh") == await column(store, changes.c.event)
    assert [f"c-{name}" for name in "abcdefgh"] == await column(store, outbox.c.correlation)


async def test_failure_of_one(store: Store) -> None:
    """A plan that is stale fails alone; the others of its batch take effect, with their events, once (law 11)."""
    handler = Writing()
    handler.stale = {"e"}
    failed = await commit_all(store, handler, *"abcdefg")

    assert {"e": "stale"} == failed
    assert list("abcdfg") == await column(store, changes.c.event)
    assert list("abcdfg") == await column(store, inbox.c.id)
    assert [f"after-{name}" for name in "abcdfg"] == await column(store, outbox.c.id)


async def test_copies_in_one_batch(store: Store) -> None:
    """Copies of one event that meet in a batch have one effect (law 11)."""
    failed = await commit_all(store, Writing(), *"abcdcdcd")

    assert {} == failed
    assert list("abcd") == await column(store, changes.c.event)


async def test_order_of_locks(store: Store) -> None:
    """A batch goes through its plans in one order everywhere, so that two of them do not wait for each other."""
    handler = Writing()
    await commit_all(store, handler, *"abhgfedc")

    shared = [name for name in handler.order if name not in "ab"]  # those two go alone, and end when they end
    assert list("cdefgh") == shared
