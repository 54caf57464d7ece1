"""An embedded home: store, custodian, workers and transport in one process."""

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import select

from cli import home
from cli.home import SECRETS
from cli.settings import Settings
from cli.wiring.marking import guard_of
from cli.wiring.parts import Certifying, Parts, build
from cli.wiring.sealing import of_home, seal_before_leaving
from cli.wiring.vaults import open_vaults
from cli.wiring.webhooks import open_senders, sending
from events.consumer import ConsumerRuntime, ConsumerSettings
from events.embedded import EmbeddedTransport
from events.ladder import Ladder
from events.relay import Relay
from twinlock.custody.audit.log import AuditLog, is_genuine
from twinlock.custody.custodian import LocalCustodian
from twinlock.custody.lifecycle.recovering import LocalRecovering
from twinlock.custody.revocation.register import Instance
from twinlock.errors import TwinlockError
from twinlock.keys.ports import Clock
from twinlock.store.tables.custody import audit_entries
from twinlock.store.unit import Store
from workers.audit_sealer.sealing import sealing
from workers.roster import ROSTER, handlers_of, routes_of, upkeep_of
from workers.runtime import Fleet
from workers.tik_cache_refresher.hosting import keeping

if TYPE_CHECKING:
    from workers.metrics.instruments import Metrics  # its library is for workers, and takes its time

log = logging.getLogger(__name__)

AUDIT_WRITER = "embedded"
_LEAVE_SECONDS = 3.0


@asynccontextmanager
async def local_custodian(
    settings: Settings, clock: Clock, store: Store, writer: str = AUDIT_WRITER, metrics: "Metrics | None" = None
) -> AsyncIterator[LocalCustodian]:
    """Open the custodian of this process; in the end it forgets every key, and its vaults are closed."""
    audit = AuditLog(store, writer, home.read_audit_key(settings.home), clock)
    async with open_vaults(settings, clock) as (vaults, availability):
        custodian = LocalCustodian(
            store,
            vaults,
            availability,
            audit,
            clock,
            settings=settings.custody,
            instance=_instance(writer),
            guard=guard_of(settings.home),
            observer=metrics,
        )
        try:
            yield custodian
        finally:
            custodian.close()
            for step in (custodian.epoch.leave, custodian.count_operations):
                await _last(step)


@asynccontextmanager
async def local_recovering(
    settings: Settings, clock: Clock, store: Store, writer: str = AUDIT_WRITER, metrics: "Metrics | None" = None
) -> AsyncIterator[LocalRecovering]:
    """Open the second, smaller custodian, with vaults of its own that are closed in the end."""
    audit = AuditLog(store, writer, home.read_audit_key(settings.home), clock)
    async with open_vaults(settings, clock) as (vaults, availability):
        recovering = LocalRecovering(
            store,
            vaults,
            availability,
            audit,
            clock,
            settings=settings.custody,
            guard=guard_of(settings.home),
            observer=metrics,
        )
        try:
            yield recovering
        finally:
            await _last(recovering.count_operations)


def certifying_in(
    settings: Settings, clock: Clock, store: Store, folder: Path, writer: str = AUDIT_WRITER
) -> Certifying:
    """Return what the recovery handler certifies purges with."""
    audit = AuditLog(store, writer, home.read_audit_key(settings.home), clock)
    return Certifying(home.read_certificate_key(folder), audit)


def _instance(name: str) -> Instance:
    # The number of a process comes again, in a container at every start.
    return Instance(f"{name}.{socket.gethostname()[:80]}.{os.getpid()}.{secrets.token_hex(4)}", name)


async def _last(step: Callable[[], Awaitable[None]]) -> None:
    try:
        async with asyncio.timeout(_LEAVE_SECONDS):
            await step()
    except Exception as fault:  # noqa: BLE001  # the right to serve lapses by itself; a few counts may be lost
        log.warning("this custodian could not sign off: %s", type(fault).__name__)


@asynccontextmanager
async def embedded(
    settings: Settings, clock: Clock, store: Store, metrics: "Metrics | None" = None
) -> AsyncIterator[Parts]:
    """Put an embedded home together."""
    await _refuse_foreign(settings, store)
    try:
        async with (
            local_custodian(settings, clock, store, metrics=metrics) as custodian,
            local_recovering(settings, clock, store, metrics=metrics) as recovering,
        ):
            certifying = None if settings.is_fleet else certifying_in(settings, clock, store, settings.home / SECRETS)
            audit = AuditLog(store, AUDIT_WRITER, home.read_audit_key(settings.home), clock)
            yield build(settings, clock, store, custodian, recovering=recovering, certifying=certifying, audit=audit)
    finally:
        await seal_before_leaving(settings, store)


async def _refuse_foreign(settings: Settings, store: Store) -> None:
    """Refuse a database that another home works on: whose audit log begins with an entry under another key."""
    if settings.is_fleet or store.engine.dialect.name != "postgresql":
        return  # shared on purpose, or a file of this home
    own = select(audit_entries).where(audit_entries.c.writer == AUDIT_WRITER).order_by(audit_entries.c.sequence)
    async with store.read() as reader:
        first = await reader.row(own.limit(1))
    if first is not None and not is_genuine(home.read_audit_key(settings.home), first):
        raise TwinlockError(
            f"the database belongs to another home, or {home.AUDIT_KEY} is not what it was",
            hint="give this home a database of its own, or bring the file back from a backup",
        )


def embedded_fleet(parts: Parts, metrics: "Metrics | None" = None) -> Fleet:
    """Build all workers for this process, to be run once."""
    store, clock, workers = parts.store, parts.clock, parts.settings.workers
    place = parts.workplace if metrics is None else replace(parts.workplace, observer=metrics)
    handlers = handlers_of(place)
    transport = EmbeddedTransport(store, clock, routes_of(handlers))
    consumers = ConsumerRuntime(
        store,
        transport,
        handlers,
        clock,
        Ladder(),
        ConsumerSettings(concurrency=workers.concurrency, prefetch=2 * workers.concurrency),
        observer=metrics,
    )
    periodic = [*upkeep_of(parts.workplace)]
    if isinstance(parts.custodian, LocalCustodian):
        periodic += keeping(parts.custodian, workers)
    if not parts.settings.is_fleet:
        periodic.append(sealing(of_home(parts.settings, store), workers))
    hooks = open_senders(parts.settings, store)
    periodic += sending(hooks, parts.settings)
    drains = [each.drain for each in hooks]
    relay = Relay(store, transport, clock, observer=metrics)
    return Fleet(tuple(ROSTER), store, relay, consumers, periodic, clock, workers, drains=drains)
