"""A fleet: every worker has its own login, a broker carries the events, and only custodians have the vaults."""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial

from cli import home
from cli.settings import Settings
from cli.wiring.embedded import certifying_in, local_custodian, local_recovering
from cli.wiring.health import Consuming, health_of_broker, health_of_publishing, health_of_store
from cli.wiring.looks import looks_of
from cli.wiring.marking import move_mark
from cli.wiring.parts import Carrying, Certifying, Parts, build
from cli.wiring.sealing import of_fleet
from cli.wiring.webhooks import open_senders, sending
from events.amqp.collector import Collector
from events.amqp.connection import Link
from events.amqp.rpc import AmqpLane, AmqpRequester, Replying
from events.amqp.transport import AmqpTransport
from events.consumer import ConsumerRuntime, ConsumerSettings
from events.ladder import Ladder
from events.relay import Relay, RelaySettings
from events.watchdog import Watchdog
from schemas.names import ALERT_EMITTER, AUDIT_SEALER, OPERATOR, RECOVERY_HANDLER, TIK_CACHE_REFRESHER
from twinlock.custody.audit.log import AuditLog
from twinlock.custody.custodian import LocalCustodian
from twinlock.custody.port import Custodian, Recovering
from twinlock.custody.remote.caller import RemoteCustodian
from twinlock.custody.remote.host import CustodianHost
from twinlock.custody.remote.ports import Lane
from twinlock.keys.ports import Clock
from twinlock.store.unit import Store
from workers.audit_sealer.sealing import sealing
from workers.health import Check
from workers.metrics.instruments import Metrics
from workers.metrics.page import Look
from workers.roster import ROSTER, Periodic, handlers_of, upkeep_of
from workers.runtime import Drain, Fleet, Loop
from workers.tik_cache_refresher.hosting import Hosting, keeping

log = logging.getLogger(__name__)

AUDIT_WRITER = TIK_CACHE_REFRESHER
_LEAVE_SECONDS = 3.0
# What one command could not publish must not wait when the next one could.
_OF_COMMANDS = RelaySettings(longest_put_off=1.0)


@dataclass(frozen=True, slots=True)
class Staff:
    """Hold one worker, ready to run once, and what tells whether it can work."""

    fleet: Fleet
    checks: Mapping[str, Check]
    looks: Mapping[str, Look]


@dataclass(frozen=True, slots=True)
class _Custody:
    """Hold the custodian that a worker asks, and what this one worker does with keys that no other has."""

    custodian: Custodian
    loops: tuple[Loop, ...] = ()
    periodic: tuple[Periodic, ...] = ()
    lanes: tuple[Consuming, ...] = ()
    drains: tuple[Drain, ...] = ()
    recovering: Recovering | None = None
    certifying: Certifying | None = None
    audit: AuditLog | None = None


@asynccontextmanager
async def operator(settings: Settings, clock: Clock, store: Store) -> AsyncIterator[Parts]:
    """Open the parts for one command: it publishes and asks as the operator, and works on nothing itself."""
    async with AsyncExitStack() as stack:
        transport = _transport(stack, settings, clock, store, OPERATOR)
        custodian = _remote(stack, settings, clock, store, OPERATOR)
        relay = Relay(store, transport, clock, _OF_COMMANDS)
        stack.push_async_callback(relay.let_go)
        stack.push_async_callback(_note_restores, settings, store)
        yield build(settings, clock, store, custodian, Carrying(relay, lambda: transport.trouble))


async def _note_restores(settings: Settings, store: Store) -> None:
    """Move the mark of the operator's home on, where it is not that of a custodian, which does so all the time."""
    try:
        async with asyncio.timeout(_LEAVE_SECONDS):
            await move_mark(settings.home, store)
    except Exception as fault:  # noqa: BLE001  # what was done is done; the next command moves it on
        log.warning("the mark of this home could not be moved on: %s", type(fault).__name__)


@asynccontextmanager
async def staff(settings: Settings, clock: Clock, store: Store, worker: str, metrics: Metrics) -> AsyncIterator[Staff]:
    """Put one worker together for this process; leaving the block closes what it had open."""
    async with AsyncExitStack() as stack:
        transport = _transport(stack, settings, clock, store, worker)
        custody = await _custody(stack, settings, clock, store, worker, metrics)
        parts = build(
            settings,
            clock,
            store,
            custody.custodian,
            recovering=custody.recovering,
            certifying=custody.certifying,
            audit=custody.audit,
        )
        listens = ROSTER[worker].listens
        broker = health_of_broker(transport, *custody.lanes) if listens else health_of_publishing(transport)
        checks = {"database": health_of_store(store), "broker": broker}
        looks = looks_of(worker, metrics, store, transport, custody.custodian)
        yield Staff(_fleet(parts, transport, worker, custody, metrics), checks, looks)


def _fleet(parts: Parts, transport: AmqpTransport, worker: str, custody: _Custody, metrics: Metrics) -> Fleet:
    store, clock, settings = parts.store, parts.clock, parts.settings.workers
    consumers = ConsumerRuntime(
        store,
        transport,
        handlers_of(replace(parts.workplace, observer=metrics), [worker]),
        clock,
        Ladder(),
        ConsumerSettings(concurrency=settings.concurrency, prefetch=2 * settings.concurrency),
        observer=metrics,
    )
    loops = [*custody.loops, *_collecting(transport, store, worker), *_watching(transport, consumers, clock, worker)]
    periodic = [*custody.periodic, *upkeep_of(parts.workplace, [worker])]
    relay = Relay(store, transport, clock, observer=metrics)
    return Fleet([worker], store, relay, consumers, periodic, clock, settings, loops, custody.drains)


def _collecting(transport: AmqpTransport, store: Store, worker: str) -> list[Loop]:
    if not ROSTER[worker].takes:
        return []  # who is only called has no queue, and no dead letters
    collector = Collector(transport, store, worker)
    return [collector.collect, collector.put_back]


def _watching(transport: AmqpTransport, consumers: ConsumerRuntime, clock: Clock, worker: str) -> list[Loop]:
    if not ROSTER[worker].takes:
        return []
    return [Watchdog(consumers, partial(transport.waiting, worker), clock).run]


def _transport(stack: AsyncExitStack, settings: Settings, clock: Clock, store: Store, name: str) -> AmqpTransport:
    transport = AmqpTransport(settings.broker, instance(name), store.source, clock)
    stack.push_async_callback(transport.close)
    return transport


async def _custody(
    stack: AsyncExitStack, settings: Settings, clock: Clock, store: Store, worker: str, metrics: Metrics
) -> _Custody:
    if worker == AUDIT_SEALER:
        sealer = of_fleet(settings, store, instance(worker))
        remote = _remote(stack, settings, clock, store, worker)
        return _Custody(remote, periodic=(sealing(sealer, settings.workers),))
    if worker == RECOVERY_HANDLER:
        recovering = await stack.enter_async_context(local_recovering(settings, clock, store, worker, metrics))
        certifying = certifying_in(settings, clock, store, settings.secrets_folder, worker)
        remote = _remote(stack, settings, clock, store, worker)
        return _Custody(remote, recovering=recovering, certifying=certifying)
    if worker == ALERT_EMITTER:
        hooks = open_senders(settings, store)
        remote = _remote(stack, settings, clock, store, worker)
        drains = tuple(each.drain for each in hooks)
        return _Custody(remote, periodic=tuple(sending(hooks, settings)), drains=drains)
    if worker != TIK_CACHE_REFRESHER:
        return _Custody(_remote(stack, settings, clock, store, worker))
    custodian = await stack.enter_async_context(local_custodian(settings, clock, store, AUDIT_WRITER, metrics))
    lanes = _lanes(stack, settings)
    audit = AuditLog(store, AUDIT_WRITER, home.read_audit_key(settings.home), clock)
    hosting = Hosting(_host(settings, clock, store, custodian, audit, metrics).serve, lanes, settings.workers)
    return _Custody(
        custodian,
        (hosting.run,),
        keeping(custodian, settings.workers),
        tuple(lanes.values()),
        (hosting.drain,),
        audit=audit,
    )


def _host(
    settings: Settings, clock: Clock, store: Store, custodian: LocalCustodian, audit: AuditLog, metrics: Metrics
) -> CustodianHost:
    key = home.read_worker_key(settings.secrets_folder, TIK_CACHE_REFRESHER)
    return CustodianHost(store, custodian, key, audit, clock, vouches=True, observer=metrics)


def _lanes(stack: AsyncExitStack, settings: Settings) -> Mapping[Lane, AmqpLane]:
    calls = Link(settings.broker, f"{instance(TIK_CACHE_REFRESHER)} is asked")
    replies = Link(settings.broker, f"{instance(TIK_CACHE_REFRESHER)} answers")
    for link in (replies, calls):
        stack.push_async_callback(link.close)
    workers, replying = settings.workers, Replying(replies)
    places = {Lane.USER: workers.user_calls, Lane.BACKGROUND: workers.background_calls}
    lanes = {lane: AmqpLane(calls, replying, lane, places[lane]) for lane in Lane}
    for lane in lanes.values():
        stack.push_async_callback(lane.stop)
    return lanes


def _remote(stack: AsyncExitStack, settings: Settings, clock: Clock, store: Store, name: str) -> RemoteCustodian:
    requester = AmqpRequester(Link(settings.broker, f"{instance(name)} asks"))
    stack.push_async_callback(requester.close)
    return RemoteCustodian(store, requester, name, home.read_worker_key(settings.secrets_folder, name), clock)


def instance(name: str) -> str:
    """Name this process among the replicas of a worker."""
    return f"{name}.{socket.gethostname()}.{os.getpid()}"
