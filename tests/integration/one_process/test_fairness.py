"""A small tenant beside a huge one: how long it waits is counted in the huge one's steps."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Table, insert, select, text

from cli.wiring.parts import Parts
from events.handler import Handler, Received
from schemas.event import Event
from schemas.facts import AssignmentWoken, ReencryptionWoken
from schemas.identifiers import PROVIDER, SERVICE_POLICY, AvailabilityMode, MailboxKind, RequestOutcome, Workload
from schemas.names import MAILBOX_REENCRYPTOR
from schemas.requests import AssignmentRequested, PolicyRequested, RefreshRequested
from twinlock.clock import ManualClock
from twinlock.content.mailboxes import NewMailbox
from twinlock.content.plain import BytesPlain
from twinlock.custody.memory import MemoryCustodian
from twinlock.custody.port import USER, Asker, ContainerRef, WrappedContainerKey, service
from twinlock.keys.context import ItemContext
from twinlock.keys.items import ItemCipher, ItemFormat
from twinlock.store.tables.content import container_keys, containers, items
from twinlock.store.tables.work import jobs, turns
from twinlock.store.unit import Cause, Unit
from workers.mailbox_reencryptor.orders import PURPOSE, job_id

if TYPE_CHECKING:
    from tests.integration.one_process.conftest import Employ
    from tests.integration.one_process.staff import Staff

HUGE, SMALL = "acme", "beta"
BOXES = 50_000
WORKABLE = 1000  # of them, the first by name: nobody gets further within what is measured
CONCURRENCY = 2
SLOTS = 2 * CONCURRENCY  # wake-ups of one worker that may be on their way before one that finds the small tenant
FEW = 2 * SLOTS
A_MOMENT = 100  # steps of both workers together: the one goes on while the other one gets to the small tenant
WARM = 3 * SLOTS  # steps of the huge tenant after which both workers are busy with it
SETTINGS = {"workers": {"concurrency": CONCURRENCY, "assign_batch": 2, "reconcile_seconds": 1.0}}
MAILBOX = "bob@beta.example"
ASKER = Asker(USER, Cause("test"))
_CROWD = Asker(service("crowd"), Cause("crowd"))
CHUNK = 500
ASSIGNMENT = AssignmentRequested(policy=f"{HUGE}/second", all_mailboxes=True)
ROLL = RefreshRequested(policy=f"{HUGE}/first", new_policy_key=True)


@dataclass
class Steps:
    """Note every step that is about to be committed: what kind of wake-up it came from, and whose job it was."""

    taken: list[tuple[type[Event], str]] = field(default_factory=list)

    def count(self, kind: type[Event], tenant: str) -> int:
        """Count the steps of a tenant."""
        return self.taken.count((kind, tenant))


class Watched:
    """Hand everything to a handler, and note its steps."""

    def __init__(self, handler: Handler[Any, Any], steps: Steps) -> None:
        self.consumer, self.handles = handler.consumer, handler.handles
        self._handler = handler
        self._steps = steps

    async def prepare(self, event: Event, received: Received) -> Any:
        """Prepare."""
        return await self._handler.prepare(event, received)

    async def commit(self, unit: Unit, plan: Any) -> None:
        """Commit, and note whose step it is."""
        await self._handler.commit(unit, plan)
        if self.handles in (AssignmentWoken, ReencryptionWoken) and plan.job is not None:
            self._steps.taken.append((self.handles, plan.job.tenant_id))


async def furnish(staff: "Staff", parts: Parts) -> str:
    """Make the policies and the small tenant's mailbox; return the id of the policy that the huge tenant is under."""
    made = []
    for tenant, name in ((PROVIDER, SERVICE_POLICY), (HUGE, "first"), (HUGE, "second"), (SMALL, "own")):
        keys = (f"memory://a/{name}", f"memory://b/{name}")
        wanted = PolicyRequested(
            tenant=tenant, name=name, workload=Workload.MAILBOX, mode=AvailabilityMode.NONE, keys=keys
        )
        made.append(await staff.answer(await parts.publisher.request(wanted)))
    await parts.mailboxes.add(NewMailbox(MAILBOX, SMALL, MailboxKind.USER, licensed=True), ASKER)
    for number in range(3):
        await parts.items.put(MAILBOX, BytesPlain("eml", b"mail %d" % number), ASKER)

    assert {RequestOutcome.DONE} == {answer.outcome for answer in made}, made
    return str(made[1].answer["policy"])


class Crowd:
    """Write the huge tenant's mailboxes past the program: each under a new key already, its item under the old one."""

    def __init__(self, parts: Parts, policy: str) -> None:
        self._custodian = parts.custodian
        self._store = parts.store
        self._policy = policy

    async def write(self) -> None:
        """Write the mailboxes, with the jobs that re-encrypt them."""
        names = [f"00-{number:05}" for number in range(BOXES)]
        await self._write(containers, [_container(name, self._policy) for name in names])
        for start in range(0, WORKABLE, CHUNK):
            keys = await self._keys(names[start : start + CHUNK])
            await self._write(container_keys, [_key_row(key) for key in keys])
        # What lies behind the first ones has a row of a key, which nobody gets to.
        rest = [replace(keys[0], ref=ContainerRef(HUGE, name, 1)) for name in names[WORKABLE:]]
        await self._write(container_keys, [_key_row(key) for key in rest])
        await self._write(items, [await self._sealed(name) for name in names[:WORKABLE]])
        async with self._store.begin(_CROWD.cause) as unit:
            await unit.execute(insert(turns).values(worker=MAILBOX_REENCRYPTOR, tenant_id=HUGE, turn=0))
        await self._write(jobs, [_job(name, self._policy) for name in names])
        async with self._store.begin(_CROWD.cause) as unit:
            await unit.execute(text("ANALYZE"))  # as a server does by itself, the tests' one does not

    async def _write(self, table: Table, rows: Sequence[dict[str, Any]]) -> None:
        async with self._store.begin(_CROWD.cause) as unit:
            now = unit.clock.now()
            times = {name: now for name in ("created_at", "not_before") if name in table.c}
            await unit.execute(insert(table), [{**times, **row} for row in rows])

    async def _keys(self, names: Sequence[str]) -> Sequence[WrappedContainerKey]:
        refs = [ContainerRef(HUGE, name, generation) for name in names for generation in (1, 2)]
        return await self._custodian.make_container_keys(refs, self._policy, _CROWD)

    async def _sealed(self, name: str) -> dict[str, Any]:
        ref = ContainerRef(HUGE, name, 1)
        opened = await self._custodian.open_container_key(ref, _CROWD)
        return _item(ref, ItemCipher(opened.key))


def _container(name: str, policy: str) -> dict[str, Any]:
    where = {"id": name, "tenant_id": HUGE, "workload": Workload.MAILBOX, "name": f"{name}@acme.example"}
    what = {"kind": MailboxKind.USER, "licensed": True, "policy_id": policy, "newest_generation": 2, "version": 2}
    return where | what


def _key_row(key: WrappedContainerKey) -> dict[str, Any]:
    count = 1 if key.ref.generation == 1 else 0
    return {
        "container_id": key.ref.container_id,
        "generation": key.ref.generation,
        "policy_id": key.policy_id,
        "policy_key_generation": key.policy_key_generation,
        "wrapped": key.wrapped,
        "commitment": key.commitment,
        "item_count": count,
        "encrypted_count": count,
    }


def _item(ref: ContainerRef, cipher: ItemCipher) -> dict[str, Any]:
    name, body = f"item-{ref.container_id}", b"mail of many"
    context = ItemContext(ref.tenant_id, ref.container_id, ref.generation, name, 1)
    return {
        "container_id": ref.container_id,
        "id": name,
        "generation": ref.generation,
        "version": 1,
        "kind": "eml",
        "size": len(body),
        "format": ItemFormat.AEAD,
        "import_mac": cipher.import_mac(body),
        "occurrence": 0,
        "body": cipher.encrypt(body, context),
    }


def _job(name: str, policy: str) -> dict[str, Any]:
    return {
        "id": job_id(name),
        "worker": MAILBOX_REENCRYPTOR,
        "kind": PURPOSE,
        "tenant_id": HUGE,
        "container_id": name,
        "policy_id": policy,
        "payload": {},
        "total": 1,
        "done": 0,
        "trouble": "",
        "fencing": 1,
        "turn": 0,
        "correlation": "crowd",
    }


@pytest.mark.parametrize(
    ("kind", "asked"),
    [("embedded", ASSIGNMENT), ("embedded", ROLL), pytest.param("amqp", ASSIGNMENT, marks=pytest.mark.servers)],
    indirect=["kind"],
    ids=["embedded-assignment", "embedded-roll", "amqp-assignment"],
)
async def test_law_12_small_tenant(
    employ: "Employ", clock: ManualClock, asked: AssignmentRequested | RefreshRequested
) -> None:
    """law 12: a tenant's one mailbox, assigned amid another's 50,000, is done a few steps of that other one later."""
    steps, custodians = Steps(), dict[str, MemoryCustodian]()
    staff = employ(lambda store: custodians.setdefault("one", MemoryCustodian(store)), SETTINGS)
    staff.watched = lambda handler: Watched(handler, steps)

    async def busy() -> bool:
        return min(steps.count(kind, HUGE) for kind in (AssignmentWoken, ReencryptionWoken)) >= WARM

    async with staff.working() as parts:
        policy = await furnish(staff, parts)
        await Crowd(parts, policy).write()
        await parts.publisher.request(asked)
        await staff.until(busy)
        began = len(steps.taken)
        request = await parts.publisher.request(AssignmentRequested(policy=f"{SMALL}/own", mailboxes=(MAILBOX,)))
        await staff.until(lambda: _encrypted(parts))
        left = await staff.rows(select(jobs.c.id).where(jobs.c.tenant_id == HUGE))
        answered = await staff.answer(request)
    since = steps.taken[began:]
    assigned = since.index((AssignmentWoken, SMALL))
    done = since.index((ReencryptionWoken, SMALL))

    assert RequestOutcome.DONE == answered.outcome
    assert since[:assigned].count((AssignmentWoken, HUGE)) <= FEW
    assert since[assigned:done].count((ReencryptionWoken, HUGE)) <= FEW
    assert done <= A_MOMENT
    assert len(left) > BOXES - 2 * A_MOMENT


async def _encrypted(parts: Parts) -> bool:
    return (await parts.mailboxes.show(MAILBOX)).is_encrypted
