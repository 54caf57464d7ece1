"""The parts of an installation, ready-made, above a store and a custodian; the same whatever carries the events."""

from collections.abc import Callable
from dataclasses import dataclass

from cli.home import VAULTS
from cli.settings import Settings
from events.publisher import Publisher
from events.relay import Relay
from twinlock.content.adding import Adder
from twinlock.content.backends import open_backend
from twinlock.content.exporting import Exporter
from twinlock.content.files import Files
from twinlock.content.filing import Filer
from twinlock.content.importing import Importer
from twinlock.content.items import Items
from twinlock.content.keyring import Keyring, SiteKeyring
from twinlock.content.mailboxes import Mailboxes
from twinlock.content.objects import Objects
from twinlock.content.purging import ContentPurger
from twinlock.content.reblob import BlobReencrypter
from twinlock.content.reencrypt import Reencrypter
from twinlock.content.site_export import SiteExporter
from twinlock.content.site_import import SiteImporter
from twinlock.content.sites import Sites
from twinlock.content.sweeper import Sweeper
from twinlock.custody.audit.log import AuditLog
from twinlock.custody.fate import revoked_bound_seconds
from twinlock.custody.port import Custodian, Recovering
from twinlock.errors import TwinlockError
from twinlock.keys.ports import Clock
from twinlock.keys.signing import SigningKey
from twinlock.store.unit import Store
from twinlock.vaults.software.local import LocalVault
from workers.recovery_handler.purge_means import PurgeMeans
from workers.roster import Workplace


@dataclass(frozen=True, slots=True)
class Carrying:
    """Hold what brings this process's events to the broker of a fleet, and what says why it could not."""

    relay: Relay
    trouble: Callable[[], TwinlockError | None]


@dataclass(frozen=True, slots=True)
class Certifying:
    """Hold the key that signs the certificates of purges, and where purges are audited."""

    key: SigningKey
    audit: AuditLog

    def means(self, settings: Settings, content: ContentPurger) -> PurgeMeans:
        """Return what the recovery handler purges with."""
        return PurgeMeans(content, self.key, self.audit, settings.approvals, revoked_bound_seconds(settings.custody))


@dataclass(frozen=True, slots=True)
class Parts:
    """Hold everything that commands and workers work with.

    `vault` is for those who administer embedded vaults; `carrying` is a command's in a fleet, and `recovering` and
    `purging` are the recovery handler's, wherever that runs.
    """

    settings: Settings
    clock: Clock
    store: Store
    vault: LocalVault
    custodian: Custodian
    publisher: Publisher
    mailboxes: Mailboxes
    items: Items
    importer: Importer
    exporter: Exporter
    reencrypter: Reencrypter
    blob_reencrypter: BlobReencrypter
    sites: Sites
    files: Files
    site_importer: SiteImporter
    site_exporter: SiteExporter
    sweeper: Sweeper
    carrying: Carrying | None = None
    recovering: Recovering | None = None
    purging: PurgeMeans | None = None
    audit: AuditLog | None = None

    @property
    def workplace(self) -> Workplace:
        """Return what workers work with."""
        return Workplace(
            self.store,
            self.custodian,
            self.reencrypter,
            self.blob_reencrypter,
            self.sweeper,
            self.settings.workers,
            self.recovering,
            self.settings.approvals,
            self.purging,
            self.settings.webhooks,
            self.audit,
        )


def build(
    settings: Settings,
    clock: Clock,
    store: Store,
    custodian: Custodian,
    carrying: Carrying | None = None,
    recovering: Recovering | None = None,
    certifying: Certifying | None = None,
    audit: AuditLog | None = None,
) -> Parts:
    """Put the parts together on an open store."""
    objects = Objects(open_backend(settings.objects_url), store, settings.content)
    keyring = Keyring(custodian, clock)
    adder = Adder(store, objects, keyring, settings.content)
    items = Items(store, objects, keyring, adder)
    site_keyring = SiteKeyring(custodian, clock)
    filer = Filer(store, objects, site_keyring)
    files = Files(store, objects, site_keyring, filer)
    purger = ContentPurger(store, objects, settings.content)
    return Parts(
        settings=settings,
        clock=clock,
        store=store,
        vault=LocalVault(settings.home / VAULTS, clock),
        custodian=custodian,
        publisher=Publisher(store),
        mailboxes=Mailboxes(store, custodian, settings.content),
        items=items,
        importer=Importer(store, adder, settings.content),
        exporter=Exporter(store, items),
        reencrypter=Reencrypter(store, objects, keyring, settings.content),
        blob_reencrypter=BlobReencrypter(store, objects, site_keyring, settings.content),
        sites=Sites(store, custodian, settings.content),
        files=files,
        site_importer=SiteImporter(store, filer, site_keyring),
        site_exporter=SiteExporter(store, files),
        sweeper=Sweeper(store, objects, settings.content),
        carrying=carrying,
        recovering=recovering,
        purging=None if certifying is None else certifying.means(settings, purger),
        audit=audit,
    )
