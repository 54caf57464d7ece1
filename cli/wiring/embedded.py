"""An embedded home: store, custodian, workers and transport in one process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import select

from cli import home
from cli.home import VAULTS
from cli.settings import Settings
from cli.wiring.parts import Parts, build
from events.consumer import ConsumerRuntime, ConsumerSettings
from events.embedded import EmbeddedTransport
from events.ladder import Ladder
from events.relay import Relay
from twinlock.custody.audit import AuditLog, is_genuine
from twinlock.custody.custodian import LocalCustodian
from twinlock.errors import TwinlockError
from twinlock.keys.ports import Clock
from twinlock.store.tables.custody import audit_entries
from twinlock.store.unit import Store
from twinlock.vaults.directory import VaultDirectory
from twinlock.vaults.local import SCHEME, LocalVault
from workers.roster import ROSTER, Periodic, handlers_of, routes_of, upkeep_of
from workers.runtime import Fleet

AUDIT_WRITER = "embedded"


def local_custodian(settings: Settings, clock: Clock, store: Store, writer: str = AUDIT_WRITER) -> LocalCustodian:
    """Make the custodian of this process; whoever asked for it closes it."""
    vault = LocalVault(settings.home / VAULTS, clock)
    audit = AuditLog(store, writer, home.read_audit_key(settings.home), clock)
    return LocalCustodian(store, VaultDirectory({SCHEME: vault}), vault, audit, clock, settings=settings.custody)


@asynccontextmanager
async def embedded(settings: Settings, clock: Clock, store: Store) -> AsyncIterator[Parts]:
    """Put an embedded home together, with a custodian that forgets every key in the end."""
    await _refuse_foreign(settings, store)
    custodian = local_custodian(settings, clock, store)
    try:
        yield build(settings, clock, store, custodian)
    finally:
        custodian.close()


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


def embedded_fleet(parts: Parts) -> Fleet:
    """Build all workers for this process, to be run once."""
    store, clock, workers = parts.store, parts.clock, parts.settings.workers
    handlers = handlers_of(parts.workplace)
    transport = EmbeddedTransport(store, clock, routes_of(handlers))
    consumers = ConsumerRuntime(
        store,
        transport,
        handlers,
        clock,
        Ladder(),
        ConsumerSettings(concurrency=workers.concurrency, prefetch=2 * workers.concurrency),
    )
    periodic = [*upkeep_of(parts.workplace)]
    if isinstance(parts.custodian, LocalCustodian):
        # The prober only ends by a fault, and is started again.
        periodic.append(Periodic("probe", workers.reconcile_seconds, parts.custodian.prober.run))
    return Fleet(tuple(ROSTER), store, Relay(store, transport, clock), consumers, periodic, clock, workers)
