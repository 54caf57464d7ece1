"""Who may tell which fact: one table, held against every type and every login, and against what workers really tell."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from events.consumer import ConsumerRuntime
from events.handler import Received
from events.ladder import Ladder
from events.memory import MemoryBroker, MemoryTransport
from events.transport import Message
from schemas.envelope import parse
from schemas.event import Event
from schemas.identifiers import AvailabilityMode, Workload
from schemas.names import DEP_ASSIGNER, OPERATOR, WORKERS
from schemas.producers import PRODUCERS
from schemas.registry import EVENTS, FACTS
from schemas.requests import AssignmentRequested, MoveRequested, PolicyRequested, RefreshRequested, SiteMoveRequested
from twinlock.clock import ManualClock
from twinlock.store.tables.bus import outbox
from twinlock.store.unit import LOCAL_PUBLISHER, Store, Unit
from workers.roster import ROSTER

if TYPE_CHECKING:
    from tests.integration.conftest import Pump, World

GOLDEN = Path(__file__).parents[1] / "vectors" / "golden"
STRANGER = "stranger"
LOGINS = sorted({*WORKERS, OPERATOR, LOCAL_PUBLISHER, STRANGER})


class Listen:
    """Keep in whose name a fact came."""

    consumer = "listener"

    def __init__(self, handles: type[Event]) -> None:
        self.handles = handles
        self.heard: list[str] = []

    async def prepare(self, event: Event, received: Received) -> str:
        """Return the publisher."""
        return received.publisher

    async def commit(self, unit: Unit, plan: str) -> None:
        """Keep it."""
        self.heard.append(plan)


def golden(event_type: str, publisher: str) -> Message:
    """Return a fact of a type, as a login sends it."""
    body = next(GOLDEN.glob(f"{event_type}*.json")).read_bytes()
    envelope, _event = parse(body)
    return Message(publisher, envelope.source, envelope.id, envelope.type, envelope.correlation, body)


async def tell(store: Store, event_type: str, publisher: str) -> tuple[list[str], MemoryBroker]:
    """Have somebody tell a fact; return in whose name it was handled, and the broker."""
    listen = Listen(EVENTS[event_type])
    broker = MemoryBroker(ManualClock(), {})
    broker.put(listen.consumer, golden(event_type, publisher))
    runtime = ConsumerRuntime(store, MemoryTransport(broker), [listen], store.clock, Ladder())
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(runtime.run())
        while broker.waiting:
            await breathe()
        await runtime.drain(10.0)
    return listen.heard, broker


async def breathe() -> None:
    await asyncio.sleep(0)


def test_every_fact_has_producers() -> None:
    """Every fact has producers and no request has, all of them are workers, and every worker that runs is one."""
    assert {fact.type for fact in FACTS} == set(PRODUCERS)
    assert all(producers and producers <= WORKERS for producers in PRODUCERS.values())
    assert set(ROSTER) <= WORKERS


@pytest.mark.parametrize("event_type", sorted(PRODUCERS))
async def test_fleet(store: Store, event_type: str) -> None:
    """In a fleet a fact counts from its producers alone; all others' copies never reach a handler (law 13)."""
    store.sender = DEP_ASSIGNER
    for login in LOGINS:
        heard, broker = await tell(Store(store.engine, store.clock, store.source, store.sender), event_type, login)
        if login in PRODUCERS[event_type]:
            assert ([login], [], []) == (heard, broker.letters, broker.rejected)
        else:
            ours = login in {*WORKERS, OPERATOR}
            kept, other = (broker.letters, broker.rejected) if ours else (broker.rejected, broker.letters)

            assert ([], []) == (heard, other)
            assert [f"producer: {event_type} is not for this login to tell"] == [letter.reason for letter in kept]


@pytest.mark.parametrize("event_type", sorted(PRODUCERS))
async def test_embedded(store: Store, event_type: str) -> None:
    """Where there is no broker the one publisher there is tells everything."""
    heard, broker = await tell(store, event_type, LOCAL_PUBLISHER)

    assert ([LOCAL_PUBLISHER], [], []) == (heard, broker.letters, broker.rejected)


async def test_workers_tell_what_they_may(world: "World", pump: "Pump", monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the handlers of a worker emit is that worker's to tell."""
    handle = pump._handle

    async def as_its_worker(received: Received, event: Event) -> None:
        handler = pump._handlers.get(event.type)
        world.store.sender = handler.consumer if handler else OPERATOR
        await handle(received, event)

    monkeypatch.setattr(pump, "_handle", as_its_worker)
    told: dict[str, set[str]] = {}
    await world.mailbox("ann@acme.example", *(bytes([number]) * 50 for number in range(20)))
    await world.site("plans", one=b"1", two=b"2")
    keys = ("local://vault-1/key", "local://vault-2/key")
    for request in (
        PolicyRequested(tenant="acme", name="new", workload=Workload.MAILBOX, mode=AvailabilityMode.STRICT, keys=keys),
        AssignmentRequested(policy="policy-p", mailboxes=("ann@acme.example",)),
        RefreshRequested(policy="acme/new"),
        MoveRequested(mailbox="ann@acme.example"),
        AssignmentRequested(policy="policy-europe", geos=("EUR",)),
        SiteMoveRequested(tenant="acme", site="plans"),
    ):
        world.store.sender = OPERATOR
        await pump.publisher.request(request)
        while rows := await _outgoing(world.store):
            for row in rows:
                told.setdefault(row.type, set()).add(row.publisher)
            await pump.step()
    facts = {event_type: by for event_type, by in told.items() if event_type in PRODUCERS}

    assert len(facts) >= 9
    assert {} == {name: by - PRODUCERS[name] for name, by in facts.items() if not by <= PRODUCERS[name]}


async def _outgoing(store: Store) -> list[Any]:
    async with store.read() as reader:
        return list(await reader.rows(select(outbox)))
