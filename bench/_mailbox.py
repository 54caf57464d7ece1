"""One tenant with one mailbox of realistic mail, above a custodian without vaults: no vault is measured here."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from obstore.store import LocalStore
from sqlalchemy import insert

from bench._sizes import sizes
from events.consumer import ConsumerRuntime
from events.embedded import EmbeddedTransport
from events.ladder import Ladder
from events.relay import Relay
from events.transport import Message
from schemas.facts import ReencryptionCompleted, ReencryptionWoken
from schemas.identifiers import MailboxKind
from schemas.names import MAILBOX_REENCRYPTOR
from twinlock.clock import SystemClock
from twinlock.content import containers, generations
from twinlock.content.adding import Adder, Draft
from twinlock.content.containers import Container
from twinlock.content.keyring import Keyring, SiteKeyring
from twinlock.content.mailboxes import Mailboxes, NewMailbox
from twinlock.content.objects import Objects
from twinlock.content.plain import BytesPlain
from twinlock.content.reblob import BlobReencrypter
from twinlock.content.reencrypt import Reencrypter
from twinlock.content.settings import ContentSettings
from twinlock.content.sweeper import Sweeper
from twinlock.custody.memory import MemoryCustodian
from twinlock.custody.port import USER, Asker, service
from twinlock.store.engine import open_engine
from twinlock.store.migrate import upgrade
from twinlock.store.tables.custody import policies, policy_keys
from twinlock.store.tables.tenants import tenants
from twinlock.store.unit import Cause, Store, Unit, new_id
from workers.mailbox_reencryptor.orders import order
from workers.roster import ROSTER, Workplace, handlers_of, upkeep_of
from workers.runtime import Fleet
from workers.settings import WorkerSettings

ADDRESS = "bench@acme.example"
POLICIES = ("service-policy", "policy-p")
BATCH = 100
SETTLE = 0.3


@dataclass(frozen=True, slots=True)
class Bench:
    """Hold the parts that a benchmark works with."""

    store: Store
    objects: Objects
    custodian: MemoryCustodian
    settings: ContentSettings

    async def mailbox(self) -> Container:
        """Read the mailbox."""
        async with self.store.read() as reader:
            return await containers.find_mailbox(reader, ADDRESS)

    async def fill(self, count: int) -> None:
        """Add the mails."""
        asker = Asker(USER, Cause(new_id()))
        mailboxes = Mailboxes(self.store, self.custodian, self.settings)
        await mailboxes.add(NewMailbox(ADDRESS, "acme", MailboxKind.USER, True), asker)
        adder = Adder(self.store, self.objects, Keyring(self.custodian, self.store.clock), self.settings)
        mailbox = await self.mailbox()
        wanted = sizes(count)
        for start in range(0, count, BATCH):
            drafts = [Draft(BytesPlain("eml", os.urandom(size)), 0) for size in wanted[start : start + BATCH]]
            await adder.add(mailbox.id, drafts, asker)

    async def reencrypt(self, announced: asyncio.Event) -> None:
        """Give the mailbox a new key, and wait for a running fleet to tell that every item is under it."""
        cause = Cause(new_id())
        seen = await self.mailbox()
        ref = seen.ref(seen.newest.number + 1)
        (made,) = await self.custodian.make_container_keys([ref], seen.policy_id, Asker(service("bench"), cause))
        async with self.store.begin(cause) as unit:
            locked = await containers.lock_as_read(unit, seen)
            await order(unit, locked, locked.policy_id, await generations.renew(unit, locked, made))
        await announced.wait()

    @asynccontextmanager
    async def working(self) -> AsyncIterator[asyncio.Event]:
        """Run the fleet; the event is set when a re-encryption is told to be complete."""
        announced, stop = asyncio.Event(), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._fleet(announced).run(stop))
            await asyncio.sleep(SETTLE)  # a fleet runs long before anybody gives it work
            yield announced
            stop.set()

    def _fleet(self, announced: asyncio.Event) -> Fleet:
        settings = WorkerSettings()
        clock = self.store.clock
        reencrypter = Reencrypter(self.store, self.objects, Keyring(self.custodian, clock), self.settings)
        transport = Telling(self.store, clock, {ReencryptionWoken.type: [MAILBOX_REENCRYPTOR]})
        transport.announced = announced
        sweeper = Sweeper(self.store, self.objects, self.settings)
        blobs = BlobReencrypter(self.store, self.objects, SiteKeyring(self.custodian, clock), self.settings)
        place = Workplace(self.store, self.custodian, reencrypter, blobs, sweeper, settings)
        consumers = ConsumerRuntime(self.store, transport, handlers_of(place), clock, Ladder())
        relay = Relay(self.store, transport, clock)
        return Fleet(tuple(ROSTER), self.store, relay, consumers, upkeep_of(place), clock, settings)


class Telling(EmbeddedTransport):
    """Set an event when a completed re-encryption is published, which costs nothing beside polling for it."""

    announced: asyncio.Event

    async def publish_within(self, unit: Unit, messages: Sequence[Message]) -> Callable[[], None]:
        """Publish, and tell after the commit."""
        announce = await super().publish_within(unit, messages)

        def tell() -> None:
            announce()
            if any(message.type == ReencryptionCompleted.type for message in messages):
                self.announced.set()

        return tell


@asynccontextmanager
async def bench(folder: Path) -> AsyncIterator[Bench]:
    """Open a fresh installation in a folder."""
    engine = open_engine(f"sqlite+aiosqlite:///{folder / 'twinlock.db'}")
    await upgrade(engine)
    store = Store(engine, SystemClock(), "urn:twinlock:bench")
    settings = ContentSettings()
    objects = Objects(LocalStore(folder / "objects", mkdir=True), store, settings)
    await _seed(store)
    try:
        yield Bench(store, objects, MemoryCustodian(store), settings)
    finally:
        await store.close()


async def _seed(store: Store) -> None:
    now = store.clock.now()
    async with store.begin(Cause(new_id())) as unit:
        for name, policy in zip(("provider", "acme"), POLICIES, strict=True):
            await unit.execute(insert(tenants).values(id=name, name=name, trial=False, created_at=now))
            await unit.execute(
                insert(policies).values(
                    id=policy,
                    tenant_id=name,
                    name="service" if name == "provider" else "p",
                    workload="mailbox",
                    mode="standard",
                    state="active",
                    health="healthy",
                    newest_generation=1,
                    version=1,
                    created_at=now,
                )
            )
            await unit.execute(
                insert(policy_keys).values(policy_id=policy, generation=1, commitment=bytes(32), created_at=now)
            )
