"""Vaults that are down for hours: whatever was begun goes on by itself when they answer again."""

from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import select

from cli.wiring.parts import Parts
from events.ladder import Ladder
from schemas.event import Event
from schemas.identifiers import PROVIDER, SERVICE_POLICY, AvailabilityMode, MailboxKind, RequestOutcome, Workload
from schemas.requests import AssignmentRequested, MoveRequested, PolicyRequested, RefreshRequested
from twinlock.clock import ManualClock
from twinlock.content.mailboxes import NewMailbox
from twinlock.content.plain import BytesPlain
from twinlock.custody.audit.log import AuditLog
from twinlock.custody.custodian import LocalCustodian
from twinlock.custody.port import USER, Asker
from twinlock.custody.settings import CustodySettings
from twinlock.keys.ports import Outcome
from twinlock.store.tables.bus import dead_letters
from twinlock.store.tables.custody import policies
from twinlock.store.tables.work import jobs
from twinlock.store.unit import Cause, Store
from twinlock.vaults.directory import VaultDirectory
from twinlock.vaults.software.memory import MemoryVault
from workers.dep_assigner.expansion import ROLL
from workers.mailbox_reencryptor.orders import PURPOSE

if TYPE_CHECKING:
    from tests.integration.one_process.conftest import Employ
    from tests.integration.one_process.staff import Staff

# The second has no availability key: while both of its vaults are down nothing opens it.
POLICIES = {"common": AvailabilityMode.STANDARD, "own": AvailabilityMode.NONE}
VAULTS = ("east", "west")
SMALL = {"content": {"batch_items": 1}, "workers": {"assign_batch": 1, "drain_seconds": 5.0}}
# The clock moves by many seconds while the database confirms an epoch once.
UNHURRIED = CustodySettings(epoch_seconds=3600.0, confirm_interval=600.0)
BOXES, ITEMS = 3, 3
# What the outage has to meet midway, and what both vaults' outage keeps from ending.
CAUGHT = {(ROLL, "common"), (ROLL, "own"), (PURPOSE, "own")}
OUTAGE = timedelta(hours=3)
STRIDE = 240.0  # seconds of the clock
ASKER = Asker(USER, Cause("test"))


class Site:
    """Hold an installation with its vaults, and mailboxes under two policies."""

    def __init__(self, employ: "Employ", clock: ManualClock) -> None:
        self.clock = clock
        self.vault, self.provider = MemoryVault(clock), MemoryVault(clock)
        self.staff: Staff = employ(self._custodian, SMALL)
        self.version = 1  # of either policy's key

    def _custodian(self, store: Store) -> LocalCustodian:
        audit = AuditLog(store, "custodian", bytes(32), self.clock)
        vaults = VaultDirectory({"memory": self.vault})
        return LocalCustodian(store, vaults, self.provider, audit, self.clock, settings=UNHURRIED)

    async def ask(self, parts: Parts, event: Event) -> None:
        """Have something done, all of it."""
        answered = await self.staff.answer(await parts.publisher.request(event))

        assert RequestOutcome.DONE == answered.outcome, answered
        await self.staff.until(self.staff.at_rest)

    async def furnish(self, parts: Parts) -> None:
        """Make the policies, and mailboxes with mail under them."""
        for name, mode in {SERVICE_POLICY: AvailabilityMode.STANDARD, **POLICIES}.items():
            for uri in roots(name):
                await self.vault.create_root_key(uri)
            tenant = PROVIDER if name == SERVICE_POLICY else "acme"
            wanted = PolicyRequested(tenant=tenant, name=name, workload=Workload.MAILBOX, mode=mode, keys=roots(name))
            await self.ask(parts, wanted)
        for name in POLICIES:
            for address in addresses(name):
                await parts.mailboxes.add(NewMailbox(address, "acme", MailboxKind.USER, licensed=True), ASKER)
                for number in range(ITEMS):
                    await parts.items.put(address, BytesPlain("eml", mail(address, number)), ASKER)
            await self.ask(parts, AssignmentRequested(policy=f"acme/{name}", mailboxes=addresses(name)))

    def hold(self, vaults: tuple[str, ...], answer: Outcome) -> None:
        """Have the customer's keys in these vaults answer so from now on."""
        for name in POLICIES:
            for vault in vaults:
                self.vault.hold(f"memory://{vault}/{name}", answer)

    async def stride(self) -> None:
        """Move the clock on when there is nothing to do before."""
        await self.staff.until(self.staff.parked)
        self.clock.advance(STRIDE)

    async def left(self) -> set[tuple[str, str, bool]]:
        """Return what is unfinished: kind of job, policy, and whether something keeps it from going on."""
        query = select(jobs.c.kind, policies.c.name, jobs.c.trouble).join(policies, policies.c.id == jobs.c.policy_id)
        return {(row.kind, row.name, bool(row.trouble)) for row in await self.staff.rows(query)}

    async def midway(self) -> bool:
        """Tell whether both rolls have begun, and re-encryptions behind them, unless all has ended already."""
        begun = Counter(row.kind for row in await self.staff.rows(select(jobs.c.kind).where(jobs.c.done > 0)))
        return (begun[ROLL] == len(POLICIES) and begun[PURPOSE] > 0) or await self.staff.at_rest()

    async def caught(self) -> bool:
        """Tell whether an outage from now on meets both rolls, and a re-encryption that no other key can help."""
        return CAUGHT <= {(kind, policy) for kind, policy, _ in await self.left()}

    def asked(self) -> int:
        """Count how often the keys of the policy without an availability key were asked."""
        return sum(self.vault.calls["unwrap", uri] for uri in roots("own"))


def roots(policy: str) -> tuple[str, str]:
    """Name the root keys of a policy; those of the service policy are in vaults of the provider."""
    first, second = ("provider-a", "provider-b") if policy == SERVICE_POLICY else VAULTS
    return f"memory://{first}/{policy}", f"memory://{second}/{policy}"


def addresses(policy: str) -> tuple[str, ...]:
    return tuple(f"{policy}{number}@acme.example" for number in range(BOXES))


def mail(address: str, number: int) -> bytes:
    return f"Subject: {number}\n\nto {address}\n".encode()


async def content(parts: Parts, address: str) -> Counter[bytes]:
    ids = [item.id async for item in parts.items.list(address)]
    return Counter([b"".join([chunk async for chunk in parts.items.get(address, each, ASKER)]) for each in ids])


async def begin(site: Site) -> None:
    """Have both policies rolled, and stop everybody midway; who stopped too late rolls again."""
    async with site.staff.working() as parts:
        await site.furnish(parts)
    while not await site.caught():
        async with site.staff.working() as parts:
            await site.staff.until(site.staff.at_rest)
            for name in POLICIES:
                await parts.publisher.request(RefreshRequested(policy=f"acme/{name}", new_policy_key=True))
            site.version += 1
            await site.staff.until(site.midway)


async def sit_out(site: Site) -> None:
    """Let the hours pass, with everybody at work."""
    end = site.clock.now() + OUTAGE
    while site.clock.now() < end:
        await site.stride()
    await site.staff.until(site.staff.parked)


async def assert_done(site: Site, parts: Parts) -> None:
    """Wait, without asking for anything, until all is done; nothing was given up, and every mail is there once."""
    while not await site.staff.at_rest():
        await site.stride()
    shown = [await parts.mailboxes.show(address) for name in POLICIES for address in addresses(name)]
    found = {status.address: await content(parts, status.address) for status in shown}

    assert [] == await site.staff.rows(select(dead_letters))
    assert [(site.version, ITEMS, ITEMS)] * len(shown) == [
        (s.policy_version, s.items, s.items_encrypted) for s in shown
    ]
    assert {each: Counter(mail(each, n) for n in range(ITEMS)) for each in found} == found


async def test_one_vault_down(employ: "Employ", clock: ManualClock) -> None:
    """law 12: while one vault is down for three hours the other one is enough: what was begun ends meanwhile."""
    site = Site(employ, clock)
    await begin(site)
    site.hold(VAULTS[:1], Outcome.UNAVAILABLE)
    async with site.staff.working() as parts:
        await sit_out(site)

        assert set() == await site.left()
        await assert_done(site, parts)


async def test_both_vaults_down(employ: "Employ", clock: ManualClock) -> None:
    """law 12: what both vaults' outage of three hours caught midway waits, and ends by itself when they answer again.

    Each job was tried far more often than a retry ladder has tiers; what the availability key may open went on.
    """
    site = Site(employ, clock)
    await begin(site)
    site.hold(VAULTS, Outcome.UNAVAILABLE)
    before = site.asked()
    async with site.staff.working() as parts:
        await sit_out(site)
        meanwhile = await site.staff.answer(await parts.publisher.request(MoveRequested(mailbox=addresses("own")[0])))

        assert {(*each, True) for each in CAUGHT} == await site.left()
        assert site.asked() - before > 2 * len(Ladder().tiers)
        assert RequestOutcome.REFUSED == meanwhile.outcome
        site.hold(VAULTS, Outcome.OK)
        await assert_done(site, parts)
