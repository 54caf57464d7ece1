"""A small world above a custodian without vaults: one tenant, three policies, mailboxes on demand."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest
from obstore.store import LocalStore
from sqlalchemy import Row, delete, func, insert, select

from events.answers import read_answer
from events.handler import Received
from events.inbox import Entry, admit
from events.publisher import Publisher
from events.transport import Message
from schemas.envelope import parse, serialise
from schemas.event import Event
from schemas.identifiers import MailboxKind, RequestOutcome
from schemas.names import DEP_ASSIGNER, MAILBOX_REENCRYPTOR, SITE_REENCRYPTOR
from twinlock.clock import ManualClock
from twinlock.content.adding import Adder, Draft
from twinlock.content.files import Files
from twinlock.content.filing import Filer
from twinlock.content.items import Items
from twinlock.content.keyring import Keyring, SiteKeyring
from twinlock.content.mailboxes import Mailboxes, NewMailbox
from twinlock.content.objects import Objects
from twinlock.content.plain import BytesPlain
from twinlock.content.reblob import BlobReencrypter
from twinlock.content.reencrypt import Reencrypter
from twinlock.content.settings import ContentSettings
from twinlock.content.sites import NewSite, Sites
from twinlock.content.sweeper import Sweeper
from twinlock.crashpoints import CrashPoint, arm, disarm
from twinlock.custody.memory import MemoryCustodian
from twinlock.custody.port import USER, Asker
from twinlock.store.tables.bus import outbox
from twinlock.store.tables.custody import policies, policy_keys
from twinlock.store.tables.tenants import tenants
from twinlock.store.tables.work import jobs, wake_slots
from twinlock.store.unit import Cause, StaleRead, Store
from workers.roster import Workplace, handlers_of
from workers.settings import WorkerSettings
from workers.wakeups import prepare_slots

CAUSE = Cause("test")
ASKER = Asker(USER, CAUSE)
SERVICE, P, Q = "service-policy", "policy-p", "policy-q"
SITES, EUROPE = "sites-policy", "policy-europe"
_WORKLOADS = {SITES: "site", EUROPE: "site"}
_NAMES = {SERVICE: "service", SITES: "service-site"}


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
        return Mailboxes(self.store, self.custodian, self.settings)

    @property
    def site_keyring(self) -> SiteKeyring:
        """Return a fresh keyring for sites, as another process would have."""
        return SiteKeyring(self.custodian, self.clock)

    @property
    def blob_reencrypter(self) -> BlobReencrypter:
        """Return the re-encrypt step of sites."""
        return BlobReencrypter(self.store, self.objects, self.site_keyring, self.settings)

    @property
    def sites(self) -> Sites:
        """Return the sites."""
        return Sites(self.store, self.custodian, self.settings)

    @property
    def filer(self) -> Filer:
        """Return a way to put files."""
        return Filer(self.store, self.objects, self.site_keyring)

    @property
    def files(self) -> Files:
        """Return the content API for sites."""
        return Files(self.store, self.objects, self.site_keyring, self.filer)

    async def site(self, name: str, **bodies: bytes) -> str:
        """Add a site with files and return its full name."""
        await self.sites.add(NewSite(name, "acme", "EUR"), ASKER)
        for path, body in bodies.items():
            await self.put_file(f"acme/{name}", path.encode(), body)
        return f"acme/{name}"

    async def put_file(self, site: str, path: bytes, body: bytes) -> str:
        """Put a file and return its id."""
        return await self.files.put(site, path, stream(body), ASKER)

    async def file(self, site: str, path: bytes) -> bytes:
        """Return a file's bytes, read with a fresh keyring."""
        return b"".join([chunk async for chunk in self.files.get(site, path, ASKER)])

    async def tree(self, site: str) -> dict[bytes, bytes]:
        """Return everything in a site, read with a fresh keyring; an empty folder is empty."""
        files = self.files
        listed = [file async for file in files.list(site)]
        return {file.path: b"" if file.object_name is None else await self.file(site, file.path) for file in listed}

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

    def object_names(self) -> set[str]:
        """Return the names of all files in the object folder."""
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file()}


async def stream(body: bytes, size: int = 1 << 20) -> AsyncIterator[bytes]:
    """Yield bytes in chunks."""
    for start in range(0, len(body), size):
        yield body[start : start + size]


def draft(body: bytes, occurrence: int = 0) -> Draft:
    """Make a draft of an eml."""
    return Draft(BytesPlain("eml", body), occurrence)


@pytest.fixture
async def world(store: Store, clock: ManualClock, tmp_path: Path) -> World:
    return await make_world(store, clock, tmp_path / "objects")


async def make_world(store: Store, clock: ManualClock, folder: Path) -> World:
    """Make the tenants and policies in a migrated database."""
    settings = ContentSettings(inline_bytes=2048, batch_items=8, batch_bytes=64 * 1024)
    objects = Objects(LocalStore(folder, mkdir=True), store, settings)
    custodian = MemoryCustodian(store)
    async with store.begin(CAUSE) as unit:
        for name in ("provider", "acme"):
            await unit.execute(insert(tenants).values(id=name, name=name, trial=False, created_at=clock.now()))
        for policy, tenant in (
            (SERVICE, "provider"),
            (SITES, "provider"),
            (P, "acme"),
            (Q, "acme"),
            (EUROPE, "acme"),
        ):
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
        "name": _NAMES.get(policy, policy),
        "workload": _WORKLOADS.get(policy, "mailbox"),
        "geo": "EUR" if policy == EUROPE else None,
        "mode": "standard",
        "state": "active",
        "health": "healthy",
        "newest_generation": 1,
        "version": 1,
        "created_at": clock.now(),
    }


class _Ended(BaseException):
    """Be a process that ends."""


def _end() -> None:
    raise _Ended


class Pump:
    """Deliver what is in the outbox to the real handlers, one message at a time, in an order that the test chooses.

    Every message goes through its bytes, and through the inbox in the handler's own transaction.
    """

    def __init__(self, world: World, settings: WorkerSettings) -> None:
        self.world = world
        self.settings = settings
        self.publisher = Publisher(world.store)
        self.place = Workplace(
            world.store, world.custodian, world.reencrypter, world.blob_reencrypter, world.sweeper, settings
        )
        self._handlers = {handler.handles.type: handler for handler in handlers_of(self.place)}
        self.seen: list[Event] = []
        self.copies = 1
        self.choose: Callable[[Sequence[Any]], int] = lambda rows: 0

    def another(self, rng: Random) -> "Pump":
        """Return a pump beside this one, that takes messages in any order."""
        beside = Pump(self.world, self.settings)
        beside.choose = lambda rows: rng.randrange(len(rows))
        return beside

    async def ask(self, event: Event) -> tuple[RequestOutcome | None, Mapping[str, Any], str]:
        """Publish a request, run until quiet, and return its answer."""
        request = await self.publisher.request(event)
        await self.run()
        async with self.world.store.read() as reader:
            found = await read_answer(reader, self.world.store.source, request)
        assert found is not None
        return found.outcome, found.answer, found.detail

    async def run(self, most: int = 1000) -> int:
        """Handle messages until the outbox is empty; return how many."""
        for handled in range(most):
            if not await self.step():
                return handled
        raise AssertionError("the fleet does not come to rest")

    async def step(self) -> bool:
        """Take one message from the outbox and have it handled, `copies` times."""
        async with self.world.store.read() as reader:
            rows = await reader.rows(select(outbox).order_by(outbox.c.number))
        if not rows:
            return False
        row = rows[self.choose(rows)]
        async with self.world.store.begin(CAUSE) as unit:
            await unit.execute(delete(outbox).where(outbox.c.number == row.number))
        envelope, event = parse(row.body)
        self.seen.append(event)
        try:
            for _ in range(self.copies):
                await self._handle(Received(envelope, row.publisher), event)
        except _Ended:
            await self._deliver_again(row)
            raise
        return True

    async def _deliver_again(self, row: Row[Any]) -> None:
        async with self.world.store.begin(CAUSE) as unit:
            await unit.execute(insert(outbox).values(row._asdict()))

    async def at_rest(self) -> bool:
        """Tell whether no message, no job and no wake-up is left."""
        async with self.world.store.read() as reader:
            left = [await reader.scalar(select(func.count()).select_from(table)) for table in (outbox, jobs)]
            awake = await reader.scalar(select(func.count()).where(wake_slots.c.event_id.is_not(None)))
        return [*left, awake] == [0, 0, 0]

    async def killed(self, point: CrashPoint) -> None:
        """Run in a process that ends at a crash point, if it comes there."""
        arm(point, _end)
        with suppress(_Ended):
            await self.run()
        disarm()

    async def step_killed(self) -> None:
        """Take one message in a process that ends right before it commits."""
        arm(CrashPoint.BEFORE_COMMIT, _end)
        with suppress(_Ended):
            await self.step()
        disarm()

    async def _handle(self, received: Received, event: Event) -> None:
        handler = self._handlers.get(event.type)
        if handler is None:
            return
        for _ in range(20):
            try:
                plan = await handler.prepare(event, received)
                async with self.world.store.begin(received.cause) as unit:
                    entry = Entry.of(handler.consumer, _message(received))
                    if await admit(unit, entry):
                        await handler.commit(unit, plan)
                return
            except StaleRead:
                continue
        raise AssertionError("the handler never finds a fresh state")


def _message(received: Received) -> Message:
    envelope = received.envelope
    body = serialise(envelope)
    return Message(received.publisher, envelope.source, envelope.id, envelope.type, envelope.correlation, body)


@pytest.fixture
async def pump(world: World) -> Pump:
    return await make_pump(world)


async def make_pump(world: World) -> Pump:
    """Make the slots of workers whose steps are small, and a pump."""
    settings = WorkerSettings(assign_batch=3, rollout_batch=3, policies_per_tenant=3)
    for worker in (DEP_ASSIGNER, MAILBOX_REENCRYPTOR, SITE_REENCRYPTOR):
        await prepare_slots(world.store, worker, settings.concurrency)
    return Pump(world, settings)
