"""A small world above a custodian without vaults: one tenant, three policies, mailboxes on demand."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from obstore.store import LocalStore
from sqlalchemy import insert

from schemas.identifiers import MailboxKind
from twinlock.clock import ManualClock
from twinlock.content.adding import Adder, Draft
from twinlock.content.items import Items
from twinlock.content.keyring import Keyring
from twinlock.content.mailboxes import Mailboxes, NewMailbox
from twinlock.content.objects import Objects
from twinlock.content.plain import BytesPlain
from twinlock.content.reencrypt import Reencrypter
from twinlock.content.settings import ContentSettings
from twinlock.content.sweeper import Sweeper
from twinlock.custody.memory import MemoryCustodian
from twinlock.custody.port import USER, Asker
from twinlock.store.tables.custody import policies, policy_keys
from twinlock.store.tables.tenants import tenants
from twinlock.store.unit import Cause, Store

CAUSE = Cause("test")
ASKER = Asker(USER, CAUSE)
SERVICE, P, Q = "service-policy", "policy-p", "policy-q"


@dataclass(slots=True)
class World:
    """Hold everything that a test of mailboxes needs."""

    store: Store
    clock: ManualClock
    custodian: MemoryCustodian
    settings: ContentSettings
    objects: Objects
    folder: Path

    @property
    def keyring(self) -> Keyring:
        """Return a fresh keyring, as another process would have."""
        return Keyring(self.custodian, self.clock)

    @property
    def adder(self) -> Adder:
        """Return a way to add items."""
        return Adder(self.store, self.objects, self.keyring, self.settings)

    @property
    def items(self) -> Items:
        """Return the content API."""
        return Items(self.store, self.objects, self.keyring, self.adder)

    @property
    def mailboxes(self) -> Mailboxes:
        """Return the mailboxes."""
        return Mailboxes(self.store, self.custodian)

    @property
    def reencrypter(self) -> Reencrypter:
        """Return the re-encrypt step."""
        return Reencrypter(self.store, self.objects, self.keyring, self.settings)

    @property
    def sweeper(self) -> Sweeper:
        """Return the sweeper."""
        return Sweeper(self.store, self.objects, self.settings)

    async def mailbox(self, address: str, *bodies: bytes) -> list[str]:
        """Add a mailbox with items and return their ids."""
        await self.mailboxes.add(NewMailbox(address, "acme", MailboxKind.USER, licensed=True), ASKER)
        return [await self.items.put(address, BytesPlain("eml", body), ASKER) for body in bodies]

    async def content(self, address: str) -> dict[str, bytes]:
        """Return everything in a mailbox, read with a fresh keyring."""
        items = self.items
        return {item.id: await self.read(address, item.id) async for item in items.list(address)}

    async def read(self, address: str, item_id: str) -> bytes:
        """Return one item's bytes."""
        return b"".join([chunk async for chunk in self.items.get(address, item_id, ASKER)])

    def files(self) -> set[str]:
        """Return the names of all files in the object folder."""
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file()}


def draft(body: bytes, occurrence: int = 0) -> Draft:
    """Make a draft of an eml."""
    return Draft(BytesPlain("eml", body), occurrence)


@pytest.fixture
async def world(store: Store, clock: ManualClock, tmp_path: Path) -> World:
    folder = tmp_path / "objects"
    settings = ContentSettings(inline_bytes=2048, batch_items=8, batch_bytes=64 * 1024)
    objects = Objects(LocalStore(folder, mkdir=True), store, settings)
    custodian = MemoryCustodian(store)
    async with store.begin(CAUSE) as unit:
        for name in ("provider", "acme"):
            await unit.execute(insert(tenants).values(id=name, name=name, trial=False, created_at=clock.now()))
        for policy, tenant in ((SERVICE, "provider"), (P, "acme"), (Q, "acme")):
            await unit.execute(insert(policies).values(_policy(policy, tenant, clock)))
            await unit.execute(
                insert(policy_keys).values(
                    policy_id=policy, generation=1, commitment=b"\0" * 32, created_at=clock.now()
                )
            )
    return World(store, clock, custodian, settings, objects, folder)


def _policy(policy: str, tenant: str, clock: ManualClock) -> dict[str, object]:
    return {
        "id": policy,
        "tenant_id": tenant,
        "name": "service" if policy == SERVICE else policy,
        "workload": "mailbox",
        "geo": None,
        "mode": "standard",
        "state": "active",
        "health": "healthy",
        "newest_generation": 1,
        "version": 1,
        "created_at": clock.now(),
    }
