"""Everything that a fleet does again and again, done once: what handlers do, and what is looked at by itself."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from sqlalchemy import insert, select

from events import inbox, leasing, quiet
from events.authority import records
from events.inbox import Entry
from events.transport import Message
from schemas.identifiers import Slot, Workload
from schemas.names import DEP_ASSIGNER, MAILBOX_REENCRYPTOR, WORKERS
from schemas.requests import AssignmentRequested, MoveRequested, RefreshRequested, SiteMoveRequested
from tests.integration.conftest import EUROPE, P, Pump, World, make_pump, make_world
from tests.plans.filling import FROM_EVENTS, Size, fill_backlog, fill_content
from tests.plans.watching import GROWS, Watch
from tests.servers.postgres import Postgres
from twinlock.approvals import telling
from twinlock.clock import ManualClock, SystemClock
from twinlock.content import containers
from twinlock.content.purging import ContentPurger
from twinlock.custody import rows
from twinlock.custody.audit import believing, sealing
from twinlock.custody.audit import reading as auditing
from twinlock.custody.audit.log import AuditEntry, AuditLog
from twinlock.custody.callers import replays
from twinlock.custody.health import evidence, looking
from twinlock.custody.revocation import register, revocations
from twinlock.custody.settings import EvidenceRules
from twinlock.keys.ports import Outcome
from twinlock.store.engine import open_engine
from twinlock.store.tables.custody import root_keys
from twinlock.store.tables.work import turns
from twinlock.store.unit import Cause, Reader, Store
from workers import jobs, overdue, wakeups
from workers.alert_emitter import reading
from workers.alert_emitter.sending import Sender
from workers.alert_emitter.webhooks import Webhook
from workers.metrics import looks
from workers.metrics.instruments import Metrics
from workers.recovery_handler import retiring, taking_up
from workers.roster import ROSTER, upkeep_of
from workers.settings import WorkerSettings

CAUSE = Cause("recurring")
_BIG = "t0"  # the tenant with most of the mailboxes
_PAGE = 100


class Fleet:
    """Hold a world on a filled database, watched."""

    def __init__(self, store: Store, watch: Watch, world: World, pump: Pump) -> None:
        self.store = store
        self.watch = watch
        self.world = world
        self.pump = pump

    async def handle(self) -> None:
        """Have every handler work: assignments, refreshes, moves, imports, removals."""
        addresses = [f"real-{number}@acme.example" for number in range(4)]
        for address in addresses:
            ids = await self.world.mailbox(address, b"one", b"two", b"three" * 2000)
            await self.world.items.delete(address, ids[:1], CAUSE)
        await self.world.site("team", plan=b"a file", notes=b"another")
        async with self.store.begin(CAUSE) as unit:
            made = [
                {"policy_id": policy, "slot": slot, "uri": f"memory://{slot}/key", "identity": "x", "version": "1"}
                for policy in (P, EUROPE)
                for slot in "ab"
            ]
            await unit.execute(insert(root_keys), made)
        for request in (
            AssignmentRequested(policy=P, mailboxes=tuple(addresses[:2])),
            AssignmentRequested(policy=P, all_mailboxes=True, tenant="acme"),
            AssignmentRequested(policy=EUROPE, geos=("EUR",)),
            RefreshRequested(policy=P, new_policy_key=True),
            RefreshRequested(policy=EUROPE, new_policy_key=True),
            MoveRequested(mailbox=addresses[0]),
            SiteMoveRequested(tenant="acme", site="team"),
        ):
            await self.pump.ask(request)
        await self.world.mailboxes.remove(addresses[3], CAUSE)
        for address in addresses[:3]:
            assert await self.world.content(address)
        purger = ContentPurger(self.store, self.world.objects, self.world.settings)
        step = await purger.plan("p1")
        assert step is not None
        async with self.store.begin(CAUSE) as unit:
            await purger.apply(unit, None, step)

    async def look(self) -> None:
        """Do what goes by the clock, and what every process asks about a delivery, a page or a call."""
        for worker in WORKERS:
            if ROSTER[worker].has_jobs:
                await wakeups.prepare_slots(self.store, worker, 4)
                await wakeups.reconcile(self.store, worker, 0)
                await overdue.look(self.store, worker, WorkerSettings(overdue_seconds=600))
        await self._claims()
        await self._relays()
        await self._receives()
        for task in upkeep_of(self.pump.place):
            await task.action()
        await taking_up.look(self.store, {}, 1.0)
        await retiring.retire(self.store, self.world.custodian)  # type: ignore[arg-type]  # nothing is retired
        await telling.keep(self.store, await self._audit())
        async with self.store.read() as reader:
            await self._reads(reader)
        await self._measures()
        await Sender(self.store, "w", Webhook("https://x/", Path("none")), _post)._claim()

    async def _claims(self) -> None:
        for number in range(3):
            job = await jobs.claim(self.store, MAILBOX_REENCRYPTOR, f"wake-{number}", 900)
            assert job is not None
            async with self.store.begin(CAUSE) as unit:
                assert await jobs.held(unit, job)
                await jobs.go_on(unit, job, cursor="c", done=1, progressed=True)
                await jobs.put_off(unit, job, "trouble", 60)
                await jobs.give_back(unit, MAILBOX_REENCRYPTOR, "wake-9")
                await wakeups.pass_on(unit, MAILBOX_REENCRYPTOR, 0, "wake-9")
        async with self.store.begin(CAUSE) as unit:
            # Somebody else takes all turns: what is left is any job of any tenant.
            await unit.rows(select(turns).with_for_update())
            assert await jobs.claim(self.store, MAILBOX_REENCRYPTOR, "wake-10", 900) is not None

    async def _relays(self) -> None:
        async with self.store.begin(CAUSE) as unit:
            assert await leasing.anything_due(unit, self.store.sender, "relay", unit.clock.now())
            leased = [row.number for row in await leasing.lease(unit, "relay", 60, 100, 0)]
            await leasing.put_off(unit, "relay", dict.fromkeys(leased[:50], 1.0))
            await leasing.free(unit, "relay", leased[50:60])
            await leasing.remove(unit, leased[60:])

    async def _receives(self) -> None:
        messages = [Message("local", "urn:past", f"e{number}", "t", "c", b"x") for number in range(1, 60)]
        entries = [Entry.of(DEP_ASSIGNER, message) for message in messages]
        async with self.store.begin(CAUSE) as unit:
            assert all(await inbox.handled_among(unit, entries))
            await inbox.admit_all(unit, entries)
            await records.find(unit, messages[0])
            await quiet.pending(unit, "c7", unit.clock.now())
            await evidence.gather(unit, "p1", Slot.A, Outcome.UNAVAILABLE, EvidenceRules())
            await evidence.gather(unit, "p1", Slot.A, Outcome.OK, EvidenceRules())
            await replays.take(unit, MAILBOX_REENCRYPTOR, "fresh", unit.clock.now())

    async def _reads(self, reader: Reader) -> None:
        now = self.store.clock.now()
        await evidence.read_evidence(reader, "p1", now, EvidenceRules())
        await revocations.after(reader, await revocations.newest(reader))
        await revocations.unannounced(reader)
        await sealing.read_state(reader)
        with suppress(believing.ForgedCheckpoint):  # nobody has signed what a table is filled with
            await believing.believed_checkpoint(reader, bytes(32))
        await auditing.list_entries(reader, None, 20)
        await auditing.list_entries(reader, "t1", 20)
        await rows.read_unwell(reader, "", 100)
        await reader.rows(looking._due(now - timedelta(days=1)))
        await register.read_all(reader)
        await reading.listing(reader, only_open=True)
        for workload in Workload:
            await containers.page(reader, _BIG, workload, "m5", _PAGE)
        await containers.page_of_sites(reader, None, None, "", _PAGE)
        await containers.page_of_geo(reader, _BIG, "EUR", "", _PAGE)
        await telling._has_work(self.store, reader)

    async def _measures(self) -> None:
        metrics = Metrics()
        measures = (looks.at_outbox, looks.at_alerts, looks.at_dead_letters)
        for look in (*(each(metrics, self.store) for each in measures), looks.at_jobs(metrics, self.store, *WORKERS)):
            await look()

    async def _audit(self) -> AuditLog:
        log = AuditLog(self.store, "bench", b"k" * 32, self.store.clock)
        await log.record(AuditEntry("bench", None, None, {}))
        return log


async def _post(hook: Webhook, delivery: str, at: int, body: bytes) -> None:
    """Take everything."""


async def exercise(cluster: Postgres, database: str, folder: Path, size: Size) -> Watch:
    """Fill a migrated database, do everything in it, and return what was seen."""
    await asyncio.to_thread(fill_content, cluster, database, size)
    clock = ManualClock(SystemClock().now())
    store = Store(open_engine(cluster.url(database)), clock, "urn:twinlock:bench")
    try:
        world = await make_world(store, clock, folder)
        watch = Watch(GROWS - FROM_EVENTS)
        fleet = Fleet(store, watch, world, await make_pump(world))
        watch.listen(store.engine)
        await fleet.handle()
        await asyncio.to_thread(fill_backlog, cluster, database, size)
        watch.grows = GROWS
        await fleet.look()
    finally:
        await store.close()
    return watch
