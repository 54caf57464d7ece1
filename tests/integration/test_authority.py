"""Who gets what is asked for: outside publishers at a worker's queue, as the broker names them."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Table, insert, select

from events.answers import answer
from events.authority.admission import FORBIDDEN, UNREGISTERED
from events.authority.publishers import Registration, ReservedLogin, UnknownPublisher, register, remove
from events.consumer import ConsumerRuntime, ConsumerSettings
from events.handler import Received, Rejected
from events.inbox import forget
from events.ladder import Ladder
from events.memory import MemoryBroker, MemoryTransport
from events.publisher import Publisher
from events.transport import Message
from schemas.envelope import MAX_MESSAGE_BYTES, parse
from schemas.event import Event
from schemas.facts import RequestAnswered
from schemas.identifiers import MailboxKind, RequestOutcome
from schemas.names import DEP_ASSIGNER, MAILBOX_REENCRYPTOR, OPERATOR
from schemas.registry import REQUESTS
from schemas.requests import (
    AssignmentRequested,
    MoveRequested,
    PolicyRequested,
    PurgeRequested,
    RecoveryRequested,
    RefreshRequested,
    SiteMoveRequested,
)
from twinlock.clock import ManualClock
from twinlock.content.mailboxes import NewMailbox
from twinlock.custody.port import USER, Asker
from twinlock.errors import NotFound
from twinlock.store.tables.bus import dead_letters, deliveries, inbox, outbox
from twinlock.store.tables.content import containers
from twinlock.store.tables.custody import policies
from twinlock.store.tables.publishers import publisher_tenants, publisher_types, publishers
from twinlock.store.tables.tenants import tenants
from twinlock.store.tables.work import requests
from twinlock.store.unit import Cause, Store, Unit

if TYPE_CHECKING:
    from tests.conftest import OpenStore
    from tests.integration.conftest import World

PORTAL = "portal"
ANN, OTTO = "ann@acme.example", "otto@rival.example"
OURS, THEIRS = "policy-p", "policy-x"  # of acme, of rival
KEYS = ("local://vault-1/key", "local://vault-2/key")
CAUSE = Cause("test")
ALL_TYPES = tuple(request.type for request in REQUESTS)
ROUTES = dict.fromkeys(ALL_TYPES, (DEP_ASSIGNER,))

REFRESH = RefreshRequested.type, {"policy": OURS}
PURGE = {"reason": "the contract has ended", "contact": "dpo@acme.example"}
RECOVERY = {"keys": ["local://a/k", "local://b/k"], "reason": "both lost"}


class Effect:
    """Stand for the handler of one type: count its effects, in whose name they happened, and answer."""

    consumer = DEP_ASSIGNER

    def __init__(self, handles: type[Event], effects: list[tuple[str, str]]) -> None:
        self.handles = handles
        self.refuse = False
        self.answers = True
        self._effects = effects

    async def prepare(self, event: Event, received: Received) -> Received:
        """Give up where the test says so."""
        if self.refuse:
            raise Rejected("not today")
        return received

    async def commit(self, unit: Unit, plan: Received) -> None:
        """Count."""
        self._effects.append((plan.publisher, plan.envelope.id))
        if self.answers:
            await answer(unit, plan.asked, RequestOutcome.DONE, {}, "done")


@dataclass
class Bus:
    """Run one worker of a fleet, at a broker that is trusted for nothing but the login of a sender."""

    store: Store
    broker: MemoryBroker
    effects: list[tuple[str, str]] = field(default_factory=list)
    handlers: dict[str, Effect] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.handlers = {request.type: Effect(request, self.effects) for request in REQUESTS}

    async def take(self, *messages: Message) -> None:
        """Have messages put into the worker's queue, and everything in it handled."""
        for message in messages:
            self.broker.put(DEP_ASSIGNER, message)
        settings = ConsumerSettings(concurrency=2, prefetch=4)
        transport = MemoryTransport(self.broker)
        handlers = list(self.handlers.values())
        runtime = ConsumerRuntime(self.store, transport, handlers, self.store.clock, Ladder(), settings)
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            group.create_task(runtime.run())
            while self.broker.waiting:
                await breathe()
            await runtime.drain(10.0)

    async def register(self, user: str, *names: str, may: Sequence[str] = ALL_TYPES) -> None:
        """Register a publisher, for all tenants where none is named."""
        async with self.store.begin(CAUSE) as unit:
            await register(unit, Registration(user, names, not names, tuple(may)))

    async def remove(self, user: str) -> None:
        """Remove a publisher."""
        async with self.store.begin(CAUSE) as unit:
            await remove(unit, user)

    async def rows(self, table: Table) -> Sequence[Any]:
        """Return the rows of a table."""
        async with self.store.read() as reader:
            return await reader.rows(select(table))

    async def records(self) -> list[tuple[str, str, bool, str | None]]:
        """Return id, publisher, decision and outcome of every request."""
        found = await self.rows(requests)
        return sorted((row.id, row.publisher, row.accepted, row.outcome) for row in found)

    async def answers(self) -> list[tuple[str | None, RequestOutcome, str]]:
        """Return publisher, outcome and detail of every answer that leaves."""
        events = [parse(row.body)[1] for row in await self.rows(outbox)]
        told = [event for event in events if isinstance(event, RequestAnswered)]
        return [(event.publisher, event.outcome, event.detail) for event in told]

    def rejected(self) -> list[str]:
        """Return the reasons of what was rejected since the last time."""
        reasons = [letter.reason for letter in self.broker.rejected]
        self.broker.rejected.clear()
        return reasons


async def breathe() -> None:
    await asyncio.sleep(0)


NewBus = Callable[[], Awaitable[Bus]]


@pytest.fixture
async def new_bus(world: "World", open_store: "OpenStore", clock: ManualClock) -> NewBus:
    async with world.store.begin(CAUSE) as unit:
        now = clock.now()
        await unit.execute(insert(tenants).values(id="rival", name="rival", trial=False, created_at=now))
        row = (await unit.rows(select(policies).where(policies.c.id == OURS)))[0]._mapping
        await unit.execute(insert(policies).values({**row, "id": THEIRS, "name": THEIRS, "tenant_id": "rival"}))
    await world.mailbox(ANN)
    await world.mailboxes.add(NewMailbox(OTTO, "rival", MailboxKind.USER, True), Asker(USER, CAUSE))
    await _add_sites(world, "acme", "rival")

    async def another() -> Bus:
        store = await open_store()
        store.sender = DEP_ASSIGNER
        return Bus(store, MemoryBroker(clock, ROUTES))

    return another


@pytest.fixture
async def bus(new_bus: NewBus) -> Bus:
    return await new_bus()


def message(
    publisher: str, event_type: str, data: dict[str, Any], request_id: str = "r-1", source: str = "urn:portal"
) -> Message:
    """Return a request as the transport hands it over."""
    envelope = {"specversion": "1.0", "id": request_id, "source": source, "type": event_type}
    body = json.dumps({**envelope, "time": "2026-01-01T00:00:00Z", "data": data}).encode()
    return Message(publisher, source, request_id, event_type, request_id, body)


def brought_by(publisher: str, original: Message) -> Message:
    """Return the same request as another login brings it."""
    return Message(publisher, original.source, original.id, original.type, original.correlation, original.body)


async def test_accepted(bus: Bus) -> None:
    """A registered publisher gets what it asks for its tenant, and the record says who and that (law 13)."""
    await bus.register(PORTAL, "acme")
    await bus.take(message(PORTAL, *REFRESH))

    assert [(PORTAL, "r-1")] == bus.effects
    assert [("r-1", PORTAL, True, "done")] == await bus.records()
    assert [(PORTAL, RequestOutcome.DONE, "done")] == await bus.answers()
    assert [] == bus.rejected()


async def test_label_of_the_correlation(bus: Bus) -> None:
    """The record's correlation is that of the event, whatever the message travelled under."""
    await bus.register(PORTAL, "acme")
    await bus.take(replace(message(PORTAL, *REFRESH), correlation="another"))

    assert ["r-1"] == [row.correlation for row in await bus.rows(requests)]


async def nothing_is_there(bus: Bus) -> None:
    """Fail if any table of the bus has a row."""
    for table in (requests, inbox, outbox, deliveries, dead_letters):
        assert [] == await bus.rows(table), table.name
    assert [] == bus.effects
    assert [] == bus.broker.letters


async def test_unregistered(bus: Bus) -> None:
    """A stranger's requests are rejected with the reason and leave no row, however many they are (law 13)."""
    await bus.take(*(message("stranger", *REFRESH, request_id=f"r-{number}") for number in range(50)))

    assert [UNREGISTERED] * 50 == bus.rejected()
    await nothing_is_there(bus)


RUBBISH = {
    "malformed": (RefreshRequested.type, b"{", "malformed: "),
    "oversized": (RefreshRequested.type, b" " * (MAX_MESSAGE_BYTES + 1), "too-large: "),
    "mislabelled": (MoveRequested.type, message("x", *REFRESH).body, "malformed: the type that it travelled under"),
    "unknown": ("twinlock.lottery.won.v1", message("x", "twinlock.lottery.won.v1", {}).body, "unknown-type: "),
    "fact": (
        "twinlock.reencryption.woken.v1",
        message("x", "twinlock.reencryption.woken.v1", {"slot": 1}).body,
        "producer: twinlock.reencryption.woken.v1 is not for this login to tell",
    ),
}


@pytest.mark.parametrize("kind", RUBBISH)
@pytest.mark.parametrize("registered", [False, True])
async def test_rubbish(bus: Bus, kind: str, registered: bool) -> None:
    """Rubbish from outside is rejected and leaves no row, whoever sends it; never is it a dead letter (law 13)."""
    event_type, body, reason = RUBBISH[kind]
    if registered:
        await bus.register(PORTAL)
    await bus.take(Message(PORTAL, "urn:portal", "r-1", event_type, "c", body))
    (told,) = bus.rejected()

    assert told.startswith(reason)
    await nothing_is_there(bus)


async def test_not_this_workers(bus: Bus) -> None:
    """A request that was sent to a worker without a handler for it is rejected before it is settled."""
    await bus.register(PORTAL)
    del bus.handlers[RefreshRequested.type]
    await bus.take(message(PORTAL, *REFRESH))

    assert ["no-handler: the consumer does not handle events of this type"] == bus.rejected()
    await nothing_is_there(bus)


async def test_our_own_rubbish(bus: Bus) -> None:
    """What a worker sends wrongly is a dead letter, which tells, and is not rejected."""
    await bus.take(Message(DEP_ASSIGNER, "urn:x", "r-1", RefreshRequested.type, "c", b"{"))

    assert [] == bus.rejected()
    assert ["malformed"] == [letter.reason.partition(":")[0] for letter in bus.broker.letters]


FORBIDDEN_TO_ACME: dict[str, tuple[str, dict[str, Any]]] = {
    "policy of another": (RefreshRequested.type, {"policy": THEIRS}),
    "policy of another by name": (RefreshRequested.type, {"policy": f"rival/{THEIRS}"}),
    "policy that is not there": (RefreshRequested.type, {"policy": "policy-z"}),
    "policy of a tenant that is not there": (RefreshRequested.type, {"policy": "nobody/main"}),
    "the provider's policy": (RefreshRequested.type, {"policy": "service"}),
    "recovery of another's policy": (RecoveryRequested.type, {"policy": THEIRS, **RECOVERY}),
    "purge of another's policy": (PurgeRequested.type, {"policy": THEIRS, **PURGE}),
    "mailbox of another": (MoveRequested.type, {"mailbox": OTTO}),
    "mailbox that is not there": (MoveRequested.type, {"mailbox": "nobody@acme.example"}),
    "site of another": (SiteMoveRequested.type, {"tenant": "rival", "site": "plans"}),
    "site that is not there": (SiteMoveRequested.type, {"tenant": "acme", "site": "none"}),
    "geo under the policy of another": (AssignmentRequested.type, {"policy": THEIRS, "geos": ["eu"]}),
    "geo of another": (AssignmentRequested.type, {"policy": OURS, "tenant": "rival", "geos": ["eu"]}),
    "revert of another's geos": (AssignmentRequested.type, {"policy": "service", "tenant": "rival", "all_geos": True}),
    "revert of nobody's geos": (AssignmentRequested.type, {"policy": "service-site", "all_geos": True}),
    "one mailbox of another": (AssignmentRequested.type, {"policy": OURS, "mailboxes": [ANN, OTTO]}),
    "one mailbox that is not there": (AssignmentRequested.type, {"policy": OURS, "mailboxes": [ANN, "no@body"]}),
    "to the policy of another": (AssignmentRequested.type, {"policy": THEIRS, "mailboxes": [ANN]}),
    "all mailboxes of another": (AssignmentRequested.type, {"policy": THEIRS, "all_mailboxes": True}),
    "another tenant": (AssignmentRequested.type, {"policy": OURS, "tenant": "rival", "all_mailboxes": True}),
    "revert of another": (AssignmentRequested.type, {"policy": "service", "tenant": "rival", "all_mailboxes": True}),
    "revert of a tenant that is not there": (
        AssignmentRequested.type,
        {"policy": "service", "tenant": "nobody", "all_mailboxes": True},
    ),
    "revert of nobody": (AssignmentRequested.type, {"policy": "service", "all_mailboxes": True}),
    "revert of another's mailbox": (AssignmentRequested.type, {"policy": "service", "mailboxes": [ANN, OTTO]}),
    "new policy of another": (
        PolicyRequested.type,
        {"tenant": "rival", "name": "n", "workload": "mailbox", "mode": "strict", "keys": KEYS},
    ),
    "new policy of a tenant that is not there": (
        PolicyRequested.type,
        {"tenant": "nobody", "name": "n", "workload": "mailbox", "mode": "strict", "keys": KEYS},
    ),
}
GRANTED_TO_ACME: dict[str, tuple[str, dict[str, Any]]] = {
    "refresh": REFRESH,
    "refresh by name": (RefreshRequested.type, {"policy": f"acme/{OURS}"}),
    "recovery": (RecoveryRequested.type, {"policy": OURS, **RECOVERY}),
    "purge": (PurgeRequested.type, {"policy": OURS, **PURGE}),
    "move": (MoveRequested.type, {"mailbox": ANN}),
    "move of a site": (SiteMoveRequested.type, {"tenant": "acme", "site": "plans"}),
    "assign a geo": (AssignmentRequested.type, {"policy": OURS, "geos": ["eu"]}),
    "revert all geos": (AssignmentRequested.type, {"policy": "service", "tenant": "acme", "all_geos": True}),
    "assign": (AssignmentRequested.type, {"policy": OURS, "mailboxes": [ANN, ANN]}),
    "assign all": (AssignmentRequested.type, {"policy": OURS, "tenant": "acme", "all_mailboxes": True}),
    "revert": (AssignmentRequested.type, {"policy": "service", "tenant": "acme", "all_mailboxes": True}),
    "revert a mailbox": (AssignmentRequested.type, {"policy": "service", "mailboxes": [ANN]}),
    "policy": (
        PolicyRequested.type,
        {"tenant": "acme", "name": "n", "workload": "mailbox", "mode": "strict", "keys": KEYS},
    ),
}


async def _add_sites(world: "World", *names: str) -> None:
    row = {"workload": "site", "kind": "site", "licensed": True, "geo": "eu", "policy_id": OURS}
    row |= {"newest_generation": 1, "version": 1, "created_at": world.clock.now()}
    async with world.store.begin(CAUSE) as unit:
        for name in names:
            await unit.execute(insert(containers).values(id=name, tenant_id=name, name=f"{name}/plans", **row))


def test_every_type_is_here() -> None:
    """Every type of request is tried, both ways."""
    assert set(ALL_TYPES) == {kind for kind, _ in FORBIDDEN_TO_ACME.values()}
    assert set(ALL_TYPES) == {kind for kind, _ in GRANTED_TO_ACME.values()}


@pytest.mark.parametrize("case", FORBIDDEN_TO_ACME)
async def test_wrong_tenant(bus: Bus, case: str) -> None:
    """Another tenant's things are refused in the words for what is not there; that is stored and told (law 13)."""
    await bus.register(PORTAL, "acme")
    await bus.take(message(PORTAL, *FORBIDDEN_TO_ACME[case]))

    assert [] == bus.effects
    assert [FORBIDDEN] == bus.rejected()
    assert [("r-1", PORTAL, False, "refused")] == await bus.records()
    assert [(PORTAL, RequestOutcome.REFUSED, FORBIDDEN)] == await bus.answers()
    assert [] == bus.broker.letters


@pytest.mark.parametrize("case", GRANTED_TO_ACME)
async def test_own_tenant(bus: Bus, case: str) -> None:
    """Everything of its own tenant is granted, and everything at all to a publisher for all tenants (law 13)."""
    await bus.register(PORTAL, "acme")
    await bus.register("provisioning")
    await bus.take(
        message(PORTAL, *GRANTED_TO_ACME[case]), message("provisioning", *GRANTED_TO_ACME[case], request_id="r-2")
    )

    assert [(PORTAL, "r-1"), ("provisioning", "r-2")] == sorted(bus.effects)


@pytest.mark.parametrize("case", FORBIDDEN_TO_ACME)
async def test_all_tenants(bus: Bus, case: str) -> None:
    """A publisher for all tenants reaches the handler, which tells it precisely what is not there."""
    await bus.register(PORTAL)
    await bus.take(message(PORTAL, *FORBIDDEN_TO_ACME[case]))

    assert [(PORTAL, "r-1")] == bus.effects


async def test_wrong_type(bus: Bus) -> None:
    """A type that the publisher was not registered for is refused, stored and answered (law 13)."""
    await bus.register(PORTAL, may=(AssignmentRequested.type,))
    await bus.take(message(PORTAL, *REFRESH))
    reason = f"authority: {PORTAL} may not ask for {RefreshRequested.type}"

    assert [] == bus.effects
    assert [reason] == bus.rejected()
    assert [(PORTAL, RequestOutcome.REFUSED, reason)] == await bus.answers()


async def test_refused_again(bus: Bus) -> None:
    """A refused request stays refused when it comes again, also where it would be granted by now (law 13)."""
    await bus.register(PORTAL, "rival")
    await bus.take(message(PORTAL, *REFRESH))
    await bus.register(PORTAL, "acme")
    await bus.take(message(PORTAL, *REFRESH), brought_by(MAILBOX_REENCRYPTOR, message(PORTAL, *REFRESH)))

    assert [] == bus.effects
    assert [FORBIDDEN] == bus.rejected()
    assert 1 == len(await bus.answers())


async def test_removed_before(bus: Bus) -> None:
    """What a publisher sends after it was removed is a stranger's (law 13)."""
    await bus.register(PORTAL)
    await bus.remove(PORTAL)
    await bus.take(message(PORTAL, *REFRESH))

    assert [UNREGISTERED] == bus.rejected()
    await nothing_is_there(bus)


async def test_removed_after(bus: Bus) -> None:
    """What was accepted is carried out when it is redriven, though its publisher has been removed since (law 13)."""
    await bus.register(PORTAL, "acme")
    handler = bus.handlers[RefreshRequested.type]
    handler.refuse = True
    await bus.take(message(PORTAL, *REFRESH))
    given_up = [letter.reason for letter in bus.broker.letters]
    await bus.remove(PORTAL)
    handler.refuse = False
    bus.broker.retry_letters()
    await bus.take()

    assert ["not today"] == given_up
    assert [(PORTAL, "r-1")] == bus.effects
    assert [] == bus.rejected()


@pytest.mark.parametrize("carrier", [DEP_ASSIGNER, MAILBOX_REENCRYPTOR])
async def test_carried(bus: Bus, carrier: str) -> None:
    """A copy that a worker brings counts by its record, in its publisher's name, and has no second effect (law 13)."""
    await bus.register(PORTAL, "acme")
    handler = bus.handlers[RefreshRequested.type]
    handler.answers = False
    original = message(PORTAL, *REFRESH)
    await bus.take(original)
    await bus.take(brought_by(carrier, original), original)

    assert [(PORTAL, "r-1")] == bus.effects
    assert [PORTAL] == [row.publisher for row in await bus.rows(inbox)]


async def test_carried_in_its_publishers_name(bus: Bus) -> None:
    """A copy that a worker brings back is handled in its publisher's name (law 13)."""
    await bus.register(PORTAL, "acme")
    handler = bus.handlers[RefreshRequested.type]
    handler.refuse = True
    original = message(PORTAL, *REFRESH)
    await bus.take(original)
    handler.refuse = False
    await bus.take(brought_by(MAILBOX_REENCRYPTOR, original))

    assert [(PORTAL, "r-1")] == bus.effects
    assert [(PORTAL, RequestOutcome.DONE, "done")] == await bus.answers()


async def test_removed_meanwhile(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """A publisher that is removed while its request is looked at is a stranger, and leaves no row (law 13)."""
    await bus.register(PORTAL)
    begin = bus.store.begin

    @asynccontextmanager
    async def after_removal(cause: Cause) -> AsyncIterator[Unit]:
        monkeypatch.undo()
        await bus.remove(PORTAL)
        async with begin(cause) as unit:
            yield unit

    monkeypatch.setattr(bus.store, "begin", after_removal)
    await bus.take(message(PORTAL, *REFRESH))

    assert [UNREGISTERED] == bus.rejected()
    await nothing_is_there(bus)


async def test_worker_asks(bus: Bus) -> None:
    """A worker carries others' requests and makes none: what nobody settled is a stranger's (law 13)."""
    await bus.take(message(MAILBOX_REENCRYPTOR, *REFRESH))

    assert [UNREGISTERED] == bus.rejected()
    await nothing_is_there(bus)


async def test_forgotten_by_the_inbox(bus: Bus, clock: ManualClock) -> None:
    """A copy that comes after the inbox forgot has no second effect: the record knows its outcome (law 13)."""
    await bus.register(PORTAL, "acme")
    original = message(PORTAL, *REFRESH)
    await bus.take(original)
    clock.advance(1e9)
    await forget(bus.store, DEP_ASSIGNER, clock.now())
    await bus.remove(PORTAL)
    await bus.take(original, brought_by(DEP_ASSIGNER, original))

    assert [] == await bus.rows(inbox)
    assert [(PORTAL, "r-1")] == bus.effects
    assert [] == bus.rejected()


async def test_given_up_and_forgotten(bus: Bus, clock: ManualClock) -> None:
    """A letter that is redriven years later is carried out once: nobody answered it yet (law 13)."""
    await bus.register(PORTAL, "acme")
    bus.handlers[RefreshRequested.type].refuse = True
    await bus.take(message(PORTAL, *REFRESH))
    clock.advance(1e9)
    await forget(bus.store, DEP_ASSIGNER, clock.now())
    bus.handlers[RefreshRequested.type].refuse = False
    bus.broker.retry_letters()
    await bus.take()

    assert [(PORTAL, "r-1")] == bus.effects


async def test_another_body(bus: Bus) -> None:
    """A source and id with another body is rejected loudly, and the first stays (law 13)."""
    await bus.register(PORTAL)
    await bus.take(message(PORTAL, *REFRESH))
    before = await bus.records()
    await bus.take(message(PORTAL, RefreshRequested.type, {"policy": THEIRS}))

    assert ["conflict: the same source and id came before with another body"] == bus.rejected()
    assert [(PORTAL, "r-1")] == bus.effects
    assert before == await bus.records()


async def test_another_publisher(bus: Bus) -> None:
    """A registered publisher can't use another's source and id; a stranger does not even learn that they are used."""
    await bus.register(PORTAL)
    await bus.register("partner")
    original = message(PORTAL, *REFRESH)
    await bus.take(original)
    await bus.take(brought_by("partner", original))
    to_partner = bus.rejected()
    await bus.take(brought_by("stranger", original))

    assert ["conflict: the same source and id came before by another publisher"] == to_partner
    assert [UNREGISTERED] == bus.rejected()
    assert [(PORTAL, "r-1")] == bus.effects


async def test_command(bus: Bus) -> None:
    """A command of ours needs no registration, whether its record was written with it or not (law 13)."""
    operator = Store(bus.store.engine, bus.store.clock, bus.store.source, OPERATOR)
    await Publisher(operator).request(RefreshRequested(policy=OURS))
    (row,) = await bus.rows(outbox)
    sent = Message(row.publisher, row.source, row.id, row.type, row.correlation, row.body)
    await bus.take(sent, message(OPERATOR, *REFRESH))

    assert [(OPERATOR, "r-1"), (OPERATOR, row.id)] == sorted(bus.effects, key=lambda effect: effect[1] != "r-1")


async def test_local_is_nobody_in_a_fleet(bus: Bus) -> None:
    """The name of the embedded mode's own publisher opens nothing where there is a broker (law 13)."""
    await bus.take(message("local", *REFRESH))

    assert [UNREGISTERED] == bus.rejected()
    await nothing_is_there(bus)


async def test_same_moment(new_bus: NewBus) -> None:
    """One request at two workers at the same moment is settled once and has one effect (laws 11 and 13)."""
    one, two = await new_bus(), await new_bus()
    await one.register(PORTAL, "acme")
    sent = [message(PORTAL, *REFRESH, request_id=f"r-{number}") for number in range(20)]
    sent += [message(PORTAL, RefreshRequested.type, {"policy": THEIRS}, f"x-{number}") for number in range(20)]
    async with asyncio.TaskGroup() as group:
        group.create_task(one.take(*sent))
        group.create_task(two.take(*reversed(sent)))

    assert sorted((PORTAL, f"r-{number}") for number in range(20)) == sorted(one.effects + two.effects)
    assert 40 == len(await one.records())
    assert 20 == len([outcome for _, outcome, _ in await one.answers() if outcome is RequestOutcome.REFUSED])


class Model:
    """Say who is granted what, by sets alone."""

    def __init__(self) -> None:
        self.rights: dict[str, tuple[set[str], set[str]]] = {}
        self.granted: set[tuple[str, str]] = set()
        self._settled: set[str] = set()

    def receive(self, user: str, request: Message, concerned: set[str]) -> None:
        """Settle a request at its first receipt from anybody who is registered."""
        if request.id in self._settled or user not in self.rights:
            return
        self._settled.add(request.id)
        names, types = self.rights[user]
        if concerned <= names and request.type in types:
            self.granted.add((user, request.id))


@pytest.mark.parametrize("seed", range(4))
async def test_nobody_else_gets_an_effect(bus: Bus, seed: int) -> None:
    """Whoever sends what, however often: what its publisher may ask for has one effect, all else none (law 13)."""
    dice, model = random.Random(seed), Model()  # noqa: S311  # a repeatable order, not a secret
    sent: list[tuple[Message, set[str]]] = []
    for number in range(80):
        user = dice.choice([PORTAL, "partner", "stranger", "local", MAILBOX_REENCRYPTOR])
        if user in (PORTAL, "partner") and dice.random() < 0.3:
            await _change(bus, dice, model, user)
            continue
        if not sent or dice.random() < 0.6:
            event_type, data, concerned = _some(dice)
            sent.append((message(user, event_type, data, f"r-{number}"), concerned))
        request, concerned = sent[-1] if dice.random() < 0.6 else dice.choice(sent)
        model.receive(user, request, concerned)
        await bus.take(brought_by(user, request))

    assert model.granted
    assert sorted(model.granted) == sorted(bus.effects)


async def _change(bus: Bus, dice: random.Random, model: Model, user: str) -> None:
    """Give a publisher other rights, or none."""
    if user in model.rights and dice.random() < 0.3:
        del model.rights[user]
        await bus.remove(user)
        return
    names = dice.choice([(), ("acme",), ("rival",), ("acme", "rival")])
    types = dice.sample(ALL_TYPES, dice.randint(1, len(ALL_TYPES)))
    model.rights[user] = (set(names) or {"acme", "rival"}, set(types))
    await bus.register(user, *names, may=types)


def _some(dice: random.Random) -> tuple[str, dict[str, Any], set[str]]:
    """Return some request, with the tenants that it concerns."""
    policy, mailbox = {"acme": OURS, "rival": THEIRS}, {"acme": ANN, "rival": OTTO}
    tenant, other = dice.choice(list(policy)), dice.choice(list(policy))
    some: list[tuple[str, dict[str, Any], set[str]]] = [
        (RefreshRequested.type, {"policy": policy[tenant]}, {tenant}),
        (MoveRequested.type, {"mailbox": mailbox[tenant]}, {tenant}),
        (SiteMoveRequested.type, {"tenant": tenant, "site": "plans"}, {tenant}),
        (AssignmentRequested.type, {"policy": policy[tenant], "geos": ["eu"]}, {tenant}),
        (AssignmentRequested.type, {"policy": policy[tenant], "mailboxes": [mailbox[other]]}, {tenant, other}),
        (
            AssignmentRequested.type,
            {"policy": "service", "tenant": tenant, "mailboxes": [mailbox[other]]},
            {tenant, other},
        ),
    ]
    return dice.choice(some)


async def test_registry(bus: Bus) -> None:
    """A registration replaces the one before, goes with its login, and takes no login of ours and no unknown tenant."""
    await bus.register(PORTAL, "acme", "rival")
    await bus.register(PORTAL, "rival", may=(MoveRequested.type,))
    for user in ("local", OPERATOR, DEP_ASSIGNER):
        with pytest.raises(ReservedLogin, match=user):
            await bus.register(user)
    with pytest.raises(NotFound, match="nobody"):
        await bus.register("partner", "nobody")

    assert [(PORTAL, "rival")] == [tuple(row) for row in await bus.rows(publisher_tenants)]
    assert [(PORTAL, MoveRequested.type)] == [tuple(row) for row in await bus.rows(publisher_types)]

    await bus.remove(PORTAL)
    with pytest.raises(UnknownPublisher, match=PORTAL):
        await bus.remove(PORTAL)

    assert [] == [*await bus.rows(publishers), *await bus.rows(publisher_tenants), *await bus.rows(publisher_types)]
