"""Alerts: one an episode, whatever comes twice, late or in another order."""

import asyncio
import json
import random
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import delete, func, insert, select, update

from events.dead_letters import bury
from events.handler import Received
from events.inbox import Entry, admit
from events.transport import Message
from schemas.envelope import enclose, parse, serialise
from schemas.event import Event
from schemas.facts import AlertChanged, AlertRaised, HealthChanged, PolicyRestored, PolicyRevoked
from schemas.identifiers import AlertNews, Audience, PolicyHealth, Severity, Slot
from schemas.routing import destination
from twinlock.clock import ManualClock
from twinlock.store.tables.alerts import alert_signals
from twinlock.store.tables.bus import dead_letters, outbox
from twinlock.store.tables.custody import policies, root_keys, verdicts
from twinlock.store.unit import Cause, Store
from twinlock.tenancy.removing import Removal
from workers.alert_emitter import reading
from workers.alert_emitter.episodes import forget
from workers.alert_emitter.hearing import HEARD, Hear
from workers.alert_emitter.look import look
from workers.roster import Handlers

if TYPE_CHECKING:
    from tests.conftest import OpenStore
    from tests.integration.conftest import Pump, World

START = datetime.fromisoformat("2026-01-02T03:04:05.000006+00:00")
CAUSE = Cause("test")


class Told:
    """Hold an event with the moment and the id that it has."""

    def __init__(self, event: Event, second: float, name: str) -> None:
        self.event = event
        envelope = enclose(
            event, event_id=name, source="urn:test", time=START + timedelta(seconds=second), **_cause(name)
        )
        body = serialise(envelope)
        self.message = Message("local", "urn:test", name, event.type, name, body)
        self.received = parse(body)[0]


def _cause(name: str) -> dict[str, Any]:
    return {"correlation": name, "causation": None}


def raised(kind: str, *, slot: Slot | None = None, policy: str | None = "policy-p", detail: str = "it") -> AlertRaised:
    return AlertRaised(
        kind=kind,
        severity=Severity.WARNING,
        audience=Audience.CUSTOMER,
        tenant="acme",
        policy=policy,
        slot=slot,
        detail=detail,
    )


def health(now: PolicyHealth, a: str = "ok", b: str = "ok") -> HealthChanged:
    slots = {Slot.A: a, Slot.B: b}
    return HealthChanged(policy="policy-p", version=2, tenant="acme", health=now, was=PolicyHealth.HEALTHY, slots=slots)


def revocation(fact: type[PolicyRevoked] | type[PolicyRestored], number: int) -> Event:
    return fact(policy="policy-p", version=number, tenant="acme", revocation=number)


def told(*events: Event) -> list[Told]:
    """Give events their moments, a second after the other."""
    return [Told(event, second, f"event-{second}") for second, event in enumerate(events)]


async def hear(store: Store, *each: Told) -> None:
    """Have the worker handle events, in this order, each in a transaction of its own."""
    handlers: Handlers = [Hear(event) for event in HEARD]
    by_type = {handler.handles: handler for handler in handlers}
    for one in each:
        handler = by_type[type(one.event)]
        plan = await handler.prepare(one.event, Received(one.received, one.message.publisher))
        async with store.begin(CAUSE) as unit:
            if await admit(unit, Entry.of(handler.consumer, one.message)):
                await handler.commit(unit, plan)


async def rows(store: Store) -> list[tuple[Any, ...]]:
    """Return every alert without its name and version, in seconds from the start."""
    async with store.read() as reader:
        found = await reading.listing(reader)
    return sorted(
        (row.kind, row.slot or "", row.state, row.times, since(row.first_seen), since(row.last_seen), row.detail)
        + ((since(row.resolved_at),) if row.resolved_at else ())
        for row in found
    )


def since(moment: datetime) -> float:
    return (moment - START).total_seconds()


async def news(store: Store) -> list[AlertChanged]:
    """Take what was told of alerts out of the outbox, in its order."""
    async with store.begin(CAUSE) as unit:
        mine = outbox.c.type == AlertChanged.type
        found = await unit.rows(select(outbox.c.body).where(mine).order_by(outbox.c.number))
        await unit.execute(delete(outbox).where(mine))
    return [AlertChanged.model_validate(json.loads(row.body)["data"]) for row in found]


EPISODES = told(
    raised("key-revoked", slot=Slot.A),
    raised("policy-degraded"),
    health(PolicyHealth.DEGRADED, "denied"),
    raised("availability-key-used", detail="first"),
    raised("availability-key-used", detail="second"),
    raised("availability-key-used", detail="third"),
    health(PolicyHealth.HEALTHY),
    raised("key-revoked", slot=Slot.A, detail="again"),
    raised("policy-degraded", detail="again"),
    health(PolicyHealth.DEGRADED, "denied"),
    revocation(PolicyRevoked, 1),
    raised("policy-revoked"),
    revocation(PolicyRestored, 2),
    raised("policy-restored"),
    raised("availability-key-used", detail="fourth"),
)
EXPECTED = [
    ("availability-key-used", "", "open", 1, 14.0, 14.0, "fourth"),
    ("availability-key-used", "", "resolved", 3, 3.0, 5.0, "third", 6.0),
    ("key-revoked", "a", "open", 1, 7.0, 7.0, "again"),
    ("key-revoked", "a", "resolved", 1, 0.0, 0.0, "it", 6.0),
    ("policy-degraded", "", "open", 1, 8.0, 8.0, "again"),
    ("policy-degraded", "", "resolved", 1, 1.0, 1.0, "it", 6.0),
    ("policy-restored", "", "open", 1, 13.0, 13.0, "it"),
    ("policy-revoked", "", "resolved", 1, 11.0, 11.0, "it", 12.0),
]


async def test_episode(store: Store) -> None:
    """An episode is one alert: opened, repeated with a count, resolved; the next one is another alert."""
    for one in EPISODES[3:7]:
        await hear(store, one)
    of_first = [each for each in await news(store) if each.kind == "availability-key-used"]
    await hear(store, *EPISODES[14:])
    (opened,) = await news(store)

    assert [AlertNews.OPENED, AlertNews.REPEATED, AlertNews.RESOLVED] == [each.news for each in of_first]
    assert [(1, 1), (2, 2), (3, 4)] == [(each.count, each.version) for each in of_first]
    assert 1 == len({each.alert for each in of_first})
    assert opened.alert != of_first[0].alert
    assert (1, AlertNews.OPENED) == (opened.count, opened.news)


@pytest.mark.parametrize("seed", range(4))
async def test_law_11_any_order(store: Store, seed: int) -> None:
    """Law 11: shuffled and doubled, the same events leave the same alerts."""
    order = EPISODES * 2
    if seed:
        random.Random(seed).shuffle(order)  # noqa: S311  # an order of a test
    await hear(store, *order)

    assert EXPECTED == await rows(store)
    latest = {each.alert: each for each in sorted(await news(store), key=lambda each: each.version)}
    assert sorted((each.kind, each.news is AlertNews.RESOLVED) for each in latest.values()) == [
        (kind, state == "resolved") for kind, _slot, state, *_ in EXPECTED
    ]


async def test_replicas(open_store: "OpenStore") -> None:
    """What several custodians raise at the same time, taken by several emitters at once, is one alert."""
    stores = [await open_store() for _ in range(3)]
    each = told(*[raised("availability-key-used") for _ in range(12)])
    async with asyncio.TaskGroup() as group:
        for number, one in enumerate(each):
            group.create_task(hear(stores[number % 3], one))

    assert [("availability-key-used", "", "open", 12, 0.0, 11.0, "it")] == await rows(stores[0])
    assert [1, 2, 4, 8] == sorted(each.count for each in await news(stores[0]))


async def test_late_end_divides(store: Store) -> None:
    """An end that comes after what it lies before makes two alerts of one, and both are told."""
    first, end, second = told(raised("policy-revoked"), revocation(PolicyRestored, 2), raised("policy-revoked"))
    await hear(store, first, second)
    await news(store)
    await hear(store, end)

    assert [
        ("policy-revoked", "", "open", 1, 2.0, 2.0, "it"),
        ("policy-revoked", "", "resolved", 1, 0.0, 0.0, "it", 1.0),
    ] == await rows(store)
    assert [AlertNews.RESOLVED, AlertNews.OPENED] == [each.news for each in await news(store)]


async def test_end_comes_first(store: Store) -> None:
    """What was raised before an end that is known already is told once, as over."""
    first, end = told(raised("policy-revoked"), revocation(PolicyRestored, 2))
    await hear(store, end, first)

    assert [(AlertNews.RESOLVED, 1, 1)] == [(each.news, each.count, each.version) for each in await news(store)]


async def test_where_it_goes(store: Store) -> None:
    """An alert travels by audience, tenant, severity and kind, each one word, whatever the tenant is called."""
    dotted = raised("dead-letter").model_copy(update={"tenant": "acme.eu", "policy": None})
    await hear(store, *told(raised("key-revoked", slot=Slot.A), dotted))
    async with store.read() as reader:
        bodies = await reader.rows(select(outbox.c.type, outbox.c.body).order_by(outbox.c.number))
    places = [destination(row.type, row.body) for row in bodies]

    assert ("twinlock.alerts", "alert.customer.acme.warning.key-revoked") == places[0]
    assert ("alert", "customer", "warning", "dead-letter") == tuple(places[1][1].split(".")[i] for i in (0, 1, 3, 4))
    assert places[1][1].split(".")[2].startswith("sha256-")


async def open_kinds(store: Store) -> list[str]:
    async with store.read() as reader:
        return [row.kind for row in await reading.listing(reader, only_open=True)]


async def test_a_look_ends_what_is_over(world: "World") -> None:
    """What does not hold any more is over, though nobody said so; what holds, and what is fresh, stays."""
    slots = ({"policy_id": "policy-p", "slot": "a", "uri": "memory://a/k", "identity": "x", "version": "1"},)
    now = world.clock.now()
    denied = {"policy_id": "policy-p", "slot": "a", "definite": "denied", "outcome": "unavailable", "since": now}
    denied |= {"checked_at": now, "exact": True, "detail": "", "raw": "", "request_id": "", "classifier": ""}
    async with world.store.begin(CAUSE) as unit:
        await unit.execute(insert(root_keys), slots)
        await unit.execute(insert(verdicts).values(denied))
    over = [raised("key-revoked", slot=Slot.B), raised("availability-key-used"), raised("policy-revoked")]
    gone = raised("policy-unhealthy", policy="a-policy-that-is-no-more")
    held = [raised("key-revoked", slot=Slot.A), raised("policy-degraded")]
    now = world.clock.now()
    each = [Told(event, since(now) + number / 10, f"e{number}") for number, event in enumerate([*over, gone, *held])]
    await hear(world.store, *each)

    assert 0 == await look(world.store, 10.0)

    world.clock.advance(11)

    assert 4 == await look(world.store, 10.0)
    assert ["key-revoked", "policy-degraded"] == await open_kinds(world.store)

    await remedied(world)

    assert 2 == await look(world.store, 10.0)
    assert 0 == await look(world.store, 10.0)


async def remedied(world: "World") -> None:
    """Have the denied key answer."""
    async with world.store.begin(CAUSE) as unit:
        await unit.execute(update(verdicts).values(definite="ok", outcome="ok"))
        await unit.execute(update(policies).values(health="healthy"))


async def test_dead_letters(world: "World", pump: "Pump") -> None:
    """The alert about dead letters is there as long as one of them is."""
    for name in ("one", "two"):
        async with world.store.begin(CAUSE) as unit:
            message = Message("local", "urn:test", name, "twinlock.policy.requested.v1", name, b"{}")
            await bury(unit, "dep_assigner", message, 1, "broken")
    await pump.run()
    world.clock.advance(3600)

    assert 0 == await look(world.store, 10.0)
    assert ["dead-letter"] == await open_kinds(world.store)

    async with world.store.begin(CAUSE) as unit:
        await unit.execute(delete(dead_letters))

    assert 1 == await look(world.store, 10.0)
    assert [("dead-letter", "resolved", 2)] == [(row[0], row[2], row[3]) for row in await rows(world.store)]


async def test_removed_tenant(world: "World") -> None:
    """Subscribers hear that the open alerts of a tenant are over when it was removed; then nothing is left of them."""
    now = since(world.clock.now())
    told = [Told(raised("purge", policy=each), now + number, f"e{number}") for number, each in enumerate([None, "p"])]
    await hear(world.store, *told)
    await Removal(world.store, world.mailboxes, world.sites, None).remove("acme", CAUSE)
    world.clock.advance(60)

    assert 2 == await look(world.store, 10.0)
    assert 2 == [each.news for each in await news(world.store)].count(AlertNews.RESOLVED)
    async with world.store.read() as reader:
        assert [] == await rows(world.store)
        assert 0 == await reader.scalar(select(func.count()).select_from(alert_signals))


async def test_quiet(world: "World") -> None:
    """What nothing ends is over after a day without another one, and begins anew with the next."""
    at = since(world.clock.now())
    await hear(world.store, Told(raised("read-as-service", policy=None), at, "one"))
    world.clock.advance(86399)

    assert 0 == await look(world.store, 10.0)

    world.clock.advance(2)

    assert 1 == await look(world.store, 10.0)

    await hear(world.store, Told(raised("read-as-service", policy=None), at + 86402, "two"))

    assert ["open", "resolved"] == [row[2] for row in await rows(world.store)]


async def test_forgetting(store: Store) -> None:
    """Old signals go, but for those that an open alert still counts."""
    await hear(store, *EPISODES[:7], EPISODES[13])
    await forget(store, START + timedelta(days=1))
    async with store.read() as reader:
        left = await reader.scalar(select(func.count()).select_from(alert_signals))

    assert 1 == left
    assert 4 == len(await rows(store))

    await hear(store, Told(raised("policy-restored"), 100, "later"))

    assert [2] == [row[3] for row in await rows(store) if row[2] == "open"]


async def test_follow(store: Store, clock: ManualClock) -> None:
    """Who follows sees every change from then on, and nothing that was there before."""
    await hear(store, *told(raised("policy-revoked")))
    following, number = reading.follow(store, 0.01), 1
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        seen = group.create_task(anext(following))
        while not seen.done():
            await hear(store, Told(raised("policy-revoked"), number, f"another-{number}"))
            clock.advance(0.01)
            await asyncio.sleep(0)
            number += 1
    await following.aclose()

    assert ("policy-revoked", "open") == (seen.result().kind, seen.result().state)
    assert seen.result().times > 1
