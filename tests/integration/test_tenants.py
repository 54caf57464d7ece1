"""A tenant is removed with everything that is its own, and nothing else; what must last, lasts."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import insert, select, update

from schemas.identifiers import ApprovalState, PolicyState
from twinlock.custody.audit.log import AuditLog
from twinlock.custody.revocation import revocations
from twinlock.errors import NotFound, TwinlockError
from twinlock.store.tables import metadata
from twinlock.store.tables.approvals import approvals
from twinlock.store.tables.content import container_wraps
from twinlock.store.tables.custody import audit_entries, policies
from twinlock.store.tables.custody import revocations as revocation_rows
from twinlock.store.tables.purges import purged_generations, purges
from twinlock.store.tables.tenants import tenants
from twinlock.store.tables.work import jobs
from twinlock.store.unit import Cause
from twinlock.tenancy import removing
from twinlock.tenancy.removing import Removal, Removed

if TYPE_CHECKING:
    from tests.integration.conftest import World

CAUSE, P = Cause("test"), "policy-p"
# What outlives its tenant, and what goes with the containers.
LASTING = {"audit_entries", "revocations"}
OF_CONTAINERS = {"containers", "container_keys"}
BY_ITSELF = {"publisher_tenants"}  # the database takes it along


def removal(world: "World") -> Removal:
    """Return what removes tenants, with an audit log."""
    audit = AuditLog(world.store, "operator", bytes(32), world.clock)
    return Removal(world.store, world.mailboxes, world.sites, audit)


async def fill(world: "World") -> None:
    """Give the tenant a mailbox, a site, a job and a revocation."""
    await world.mailbox("ann@acme.example", b"one", b"two")
    await world.site("plans", a=b"three")
    async with world.store.begin(CAUSE) as unit:
        await revocations.change(unit, P, PolicyState.REVOKED, None)
        row = {"id": "j", "worker": "w", "kind": "assign", "tenant_id": "acme", "payload": {}, "total": 1, "done": 0}
        times = {"not_before": world.clock.now(), "created_at": world.clock.now()}
        await unit.execute(insert(jobs).values(**row, **times, trouble="", fencing=0, turn=0, correlation="c"))


async def request(world: "World", state: ApprovalState) -> None:
    """Have something wait for signatures, or not any more."""
    now = world.clock.now()
    row: dict[str, Any] = {"id": "r", "tenant_id": "acme", "action": "recovery", "subject": "acme/p", "version": 1}
    times = {"requested_at": now, "expires_at": now + timedelta(hours=1)}
    async with world.store.begin(CAUSE) as unit:
        await unit.execute(insert(approvals).values(**row, **times, state=state, statement=b""))


async def test_removed(world: "World") -> None:
    """Nothing is left of a tenant but the audit log and the numbers of its revocations; a new one starts afresh."""
    await fill(world)
    await request(world, ApprovalState.DONE)
    removed = await removal(world).remove("acme", CAUSE)
    async with world.store.read() as reader:
        left = {
            table.name
            for table in metadata.sorted_tables
            if "tenant_id" in table.c and await reader.rows(select(table).where(table.c.tenant_id == "acme"))
        }
        others = [row.tenant_id for row in await reader.rows(select(policies.c.tenant_id))]
        (kept,) = await reader.rows(select(revocation_rows))
        entries = await reader.rows(select(audit_entries).order_by(audit_entries.c.sequence))
        known = await reader.rows(select(tenants.c.name))

    assert Removed(items=3, containers=2, policies=3) == removed
    assert {"audit_entries"} == left
    assert (["provider"] * 2, [("provider",)]) == (others, [tuple(row) for row in known])
    assert (1, P, True) == (kept.number, kept.policy_id, kept.announced)
    assert ["mailbox-removed", "site-removed", "tenant-removed"] == [entry.kind for entry in entries]
    assert 3 == entries[-1].detail["policies"]
    with pytest.raises(NotFound):
        await removal(world).remove("acme", CAUSE)


@pytest.mark.parametrize("state", [ApprovalState.OPEN, ApprovalState.APPROVED])
async def test_open_request(world: "World", state: ApprovalState) -> None:
    """A tenant with something to sign, or to carry out, keeps all that it has; once the time is up it can go."""
    await fill(world)
    await request(world, state)
    with pytest.raises(TwinlockError, match="open request: recovery acme/p"):
        await removal(world).remove("acme", CAUSE)

    assert 2 == len(await world.content("ann@acme.example"))


async def test_purging(world: "World") -> None:
    """A tenant is not removed in the middle of a purge, whose certificate would be about nothing."""
    await fill(world)
    async with world.store.begin(CAUSE) as unit:
        await unit.execute(update(policies).where(policies.c.id == P).values(state=PolicyState.PURGING))
    with pytest.raises(TwinlockError, match="is being purged"):
        await removal(world).remove("acme", CAUSE)

    assert 2 == len(await world.content("ann@acme.example"))


@pytest.mark.parametrize(("stage", "state"), [("content", PolicyState.PURGING), ("pending", PolicyState.PURGED)])
async def test_unfinished_purge(world: "World", stage: str, state: PolicyState) -> None:
    """A purge that has begun keeps its tenant until the final certificate is there, and says from when that may be."""
    await request(world, ApprovalState.DONE)
    final_at = "2026-03-01T12:00:00+00:00"
    keys = {"availability_keys": [{"uri": "local://provider/a", "state": "pending", "final_at": final_at}]}
    purge = {"id": "r", "policy_id": P, "stage": stage, "verdicts": {}, "keys": keys, "begun_at": world.clock.now()}
    async with world.store.begin(CAUSE) as unit:
        await unit.execute(update(policies).where(policies.c.id == P).values(state=state))
        await unit.execute(insert(purges).values(**purge, containers=0, items=0, objects=0))
    with pytest.raises(TwinlockError, match="purge r of policy acme/policy-p has begun") as refused:
        await removal(world).remove("acme", CAUSE)

    assert f"try again from {final_at} on" in refused.value.hint
    async with world.store.begin(CAUSE) as unit:
        await unit.execute(update(policies).where(policies.c.id == P).values(state=PolicyState.PURGED))
        await unit.execute(update(purges).values(stage="done", finished_at=world.clock.now()))
    await removal(world).remove("acme", CAUSE)


async def test_after_a_purge(world: "World") -> None:
    """A tenant whose policy was purged goes with all that the purge has noted, of the provider's policy as well."""
    await request(world, ApprovalState.DONE)
    purge = {"id": "r", "policy_id": P, "stage": "done", "verdicts": {}, "keys": {}}
    noted = {"purge_id": "r", "container_id": "c", "generation": 1, "policy_key_generation": 1, "commitment": bytes(32)}
    wraps = [{"container_id": "c", "policy_id": each, "generation": 1} for each in (P, "service-policy")]
    async with world.store.begin(CAUSE) as unit:
        await unit.execute(insert(purges).values(**purge, containers=1, items=0, objects=0))
        await unit.execute(insert(purged_generations).values(noted))
        await unit.execute(insert(container_wraps), [{**wrap, "until": world.clock.now()} for wrap in wraps])
    await removal(world).remove("acme", CAUSE)
    async with world.store.read() as reader:
        left = [await reader.rows(select(table)) for table in (purges, purged_generations, container_wraps)]

    assert [[], [], []] == left


async def test_provider(world: "World") -> None:
    """The provider owns the service policies, and stays."""
    with pytest.raises(TwinlockError, match="owns the service policies"):
        await removal(world).remove("provider", CAUSE)


def test_every_table_is_thought_of() -> None:
    """Every table that names a tenant or a policy is one that goes with it, or one that is meant to last."""
    named = {table.name for table in metadata.sorted_tables if {"tenant_id", "policy_id"} & set(table.c.keys())}
    gone = {table.name for table in (*removing.OF_POLICIES, *removing.OF_TENANT)}

    assert named == gone | LASTING | OF_CONTAINERS | BY_ITSELF
