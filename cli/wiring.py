"""The one place that knows every adapter: it opens the parts of a home, hands them out ready-made, and closes them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from obstore.store import LocalStore

from cli import home
from cli.home import VAULTS, NotInitialised
from cli.settings import Settings
from events.consumer import ConsumerRuntime, ConsumerSettings
from events.embedded import EmbeddedTransport
from events.ladder import Ladder
from events.publisher import Publisher
from events.relay import Relay
from twinlock.clock import SystemClock
from twinlock.content.adding import Adder
from twinlock.content.exporting import Exporter
from twinlock.content.importing import Importer
from twinlock.content.items import Items
from twinlock.content.keyring import Keyring
from twinlock.content.mailboxes import Mailboxes
from twinlock.content.objects import Objects
from twinlock.content.reencrypt import Reencrypter
from twinlock.content.sweeper import Sweeper
from twinlock.custody.audit import AuditLog
from twinlock.custody.custodian import LocalCustodian
from twinlock.keys.ports import Clock
from twinlock.store import migrate
from twinlock.store.engine import open_engine
from twinlock.store.unit import Cause, Store, new_id
from twinlock.vaults.directory import VaultDirectory
from twinlock.vaults.local import SCHEME, LocalVault
from workers.runtime import Fleet, all_handlers
from workers.upkeep import Periodic, upkeep

SOURCE = "urn:twinlock:embedded"
AUDIT_WRITER = "embedded"


@dataclass(frozen=True, slots=True)
class Parts:
    """Hold everything that works on one home."""

    settings: Settings
    clock: Clock
    store: Store
    vault: LocalVault
    custodian: LocalCustodian
    publisher: Publisher
    mailboxes: Mailboxes
    items: Items
    importer: Importer
    exporter: Exporter
    reencrypter: Reencrypter
    sweeper: Sweeper

    def fleet(self) -> Fleet:
        """Build the workers, to be run once."""
        workers = self.settings.workers
        handlers = all_handlers(self.store, self.custodian, self.reencrypter, workers)
        routes: dict[str, list[str]] = {}
        for handler in handlers:
            routes.setdefault(handler.handles.type, []).append(handler.consumer)
        transport = EmbeddedTransport(self.store, self.clock, routes)
        consumers = ConsumerRuntime(
            self.store,
            transport,
            handlers,
            self.clock,
            Ladder(),
            ConsumerSettings(concurrency=workers.concurrency, prefetch=2 * workers.concurrency),
        )
        relay = Relay(self.store, transport, self.clock)
        return Fleet(self.store, relay, consumers, self._periodic(), self.clock, workers)

    def _periodic(self) -> list[Periodic]:
        workers = self.settings.workers
        return [
            *upkeep(self.store, workers),
            Periodic("sweep", workers.sweep_seconds, lambda: self.sweeper.sweep(Cause(new_id()))),
            Periodic("probe", workers.reconcile_seconds, self.custodian.prober.run),  # it only ends by a fault
        ]


@asynccontextmanager
async def open_store(settings: Settings, clock: Clock) -> AsyncIterator[Store]:
    """Open the database, of whatever shape it is."""
    store = Store(open_engine(settings.database_url), clock, SOURCE)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def open_parts(settings: Settings) -> AsyncIterator[Parts]:
    """Open an initialised home; raise `NotInitialised` where it is none."""
    home.check(settings.home)
    clock = SystemClock()
    async with open_store(settings, clock) as store:
        if not await migrate.is_current(store.engine):
            raise NotInitialised(settings.home)
        parts = build(settings, clock, store)
        try:
            yield parts
        finally:
            parts.custodian.close()


def build(settings: Settings, clock: Clock, store: Store) -> Parts:
    """Put the parts together on an open store."""
    vault = LocalVault(settings.home / VAULTS, clock)
    vaults = VaultDirectory({SCHEME: vault})
    audit = AuditLog(store, AUDIT_WRITER, home.read_audit_key(settings.home), clock)
    custodian = LocalCustodian(store, vaults, vault, audit, clock, settings=settings.custody)
    objects = Objects(LocalStore(settings.objects_folder, mkdir=True), store, settings.content)
    keyring = Keyring(custodian, clock)
    adder = Adder(store, objects, keyring, settings.content)
    items = Items(store, objects, keyring, adder)
    return Parts(
        settings=settings,
        clock=clock,
        store=store,
        vault=vault,
        custodian=custodian,
        publisher=Publisher(store),
        mailboxes=Mailboxes(store, custodian),
        items=items,
        importer=Importer(store, adder, settings.content),
        exporter=Exporter(store, items),
        reencrypter=Reencrypter(store, objects, keyring, settings.content),
        sweeper=Sweeper(store, objects, settings.content),
    )
