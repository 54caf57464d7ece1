"""Remove a tenant with everything that is its own; the audit log, and the numbers of revocations, stay.

Containers go first, each in bounded transactions, and the rest in the last one. Cut off in the middle, the tenant is
there with what is left of it, and another removal goes on.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Select, delete, func, select, update

from schemas.identifiers import PROVIDER, AlertState, ApprovalState, PolicyState
from twinlock.approvals.approvers import Tenant, find_tenant
from twinlock.approvals.rows import list_approvals
from twinlock.content.mailboxes import Mailboxes
from twinlock.content.sites import Sites
from twinlock.custody.audit.log import AuditEntry, AuditLog
from twinlock.custody.decision import AvailabilityKeyState
from twinlock.custody.rows import RETIRED
from twinlock.errors import TwinlockError
from twinlock.store.tables import alerts as alert_tables
from twinlock.store.tables import approvals as approval_tables
from twinlock.store.tables import custody, work
from twinlock.store.tables.content import container_wraps, containers
from twinlock.store.tables.custody import policies
from twinlock.store.tables.purges import purged_generations, purges
from twinlock.store.tables.tenants import tenants
from twinlock.store.unit import Cause, Reader, Store, Unit

OF_POLICIES = (
    custody.evidence,
    custody.verdicts,
    custody.root_key_pins,
    custody.root_key_looks,
    custody.root_keys,
    custody.policy_key_copies,
    custody.policy_keys,
    custody.availability_keys,
    container_wraps,
    purges,
)
OF_APPROVALS = (approval_tables.approval_signatures, approval_tables.approval_steps)
OF_TENANT = (
    approval_tables.approvals,
    approval_tables.approver_changes,
    work.geos,
    work.jobs,
    work.turns,
    custody.vault_operations,
    custody.policies,
)


@dataclass(frozen=True, slots=True)
class Removed:
    """Count what was removed; `items` are those of mailboxes and the files of sites."""

    items: int
    containers: int
    policies: int


@dataclass(frozen=True, slots=True)
class Removal:
    """Remove tenants."""

    store: Store
    mailboxes: Mailboxes
    sites: Sites
    audit: AuditLog | None

    async def remove(self, name: str, cause: Cause) -> Removed:
        """Remove a tenant; raise where something of it may not be taken away now."""
        if name == PROVIDER:
            raise TwinlockError(f"tenant {PROVIDER} owns the service policies", hint="see: twinlock tenant list")
        async with self.store.read() as reader:
            await _refuse_a_role(reader)
            tenant = await find_tenant(reader, name)
            await _refuse_meanwhile(reader, tenant, self.store.clock.now())
        items = [
            await self.mailboxes.remove(each.address, cause, self.audit) async for each in self.mailboxes.list(name)
        ]
        items += [await self.sites.remove(each.name, cause, self.audit) async for each in self.sites.list(name)]
        async with self.store.begin(cause) as unit:
            # A full lock: whoever adds something to the tenant now waits, and finds it gone.
            await unit.row(select(tenants.c.id).where(tenants.c.id == tenant.id).with_for_update())
            await _refuse_meanwhile(unit, tenant, unit.clock.now())
            await _refuse_newcomers(unit, tenant)
            count = await _forget(unit, tenant)
            removed = Removed(sum(items), len(items), count)
            if self.audit is not None:
                await self.audit.append(unit, _entry(tenant, removed, unit.sender))
        return removed


async def _refuse_a_role(reader: Reader) -> None:
    """Refuse whoever could not end what it begins here: a tenant's approvers, say, no role may delete."""
    if reader.connection.dialect.name != "postgresql":
        return
    if not await reader.scalar(select(func.has_table_privilege(tenants.name, "DELETE"))):
        raise TwinlockError(
            "a tenant is removed by the owner of the database", hint="set TWINLOCK_DATABASE to the owner's URL"
        )


def _entry(tenant: Tenant, removed: Removed, sender: str) -> AuditEntry:
    counts = {"items": removed.items, "containers": removed.containers, "policies": removed.policies}
    return AuditEntry("tenant-removed", tenant.id, None, {"tenant": tenant.name, **counts, "sender": sender})


async def _refuse_meanwhile(reader: Reader, tenant: Tenant, now: datetime) -> None:
    await _refuse_unfinished(reader, tenant)
    purging = policies.c.state == PolicyState.PURGING.value
    name = await reader.scalar(select(policies.c.name).where(policies.c.tenant_id == tenant.id, purging))
    if name is not None:
        raise TwinlockError(
            f"policy {tenant.name}/{name} is being purged: its certificate is not there yet",
            hint="wait for the end of the purge, or cancel its request",
        )
    for each in await list_approvals(reader, tenant.id):
        if each.state_at(now) in (ApprovalState.OPEN, ApprovalState.APPROVED):
            raise TwinlockError(
                f"tenant {tenant.name} has an open request: {each.action} {each.subject}",
                hint=f"carry it out, or cancel it: twinlock approval cancel {each.id}",
            )


async def _refuse_unfinished(reader: Reader, tenant: Tenant) -> None:
    """Refuse where a purge has begun: with the tenant its last certificate would be lost."""
    row = purges.c
    ours = select(row.id, row["keys"].label("noted"), policies.c.name).select_from(purges.join(policies))
    begun = (policies.c.tenant_id == tenant.id, row.begun_at.is_not(None), row.finished_at.is_(None))
    found = await reader.row(ours.where(*begun).order_by(row.begun_at, row.id).limit(1))
    if found is None:
        return
    final_at = max((each["final_at"] or "" for each in found.noted["availability_keys"]), default="")
    later = f"try again from {final_at} on, when" if final_at else "try again when"
    raise TwinlockError(
        f"purge {found.id} of policy {tenant.name}/{found.name} has begun: its final certificate is not there yet",
        hint=f"{later} this says that it is done: twinlock purge show {found.id}",
    )


async def _refuse_newcomers(reader: Reader, tenant: Tenant) -> None:
    name = await reader.scalar(select(containers.c.name).where(containers.c.tenant_id == tenant.id).limit(1))
    if name is not None:
        raise TwinlockError(f"{name} was added to tenant {tenant.name} meanwhile", hint="run it again")


async def _forget(unit: Unit, tenant: Tenant) -> int:
    """Delete all rows of a tenant, and count its policies."""
    own = select(policies.c.id).where(policies.c.tenant_id == tenant.id)
    count = await unit.scalar(select(func.count()).select_from(own.subquery()))
    # Their numbers stay: the newest is the epoch, which never goes back. There is nobody left to tell.
    told = custody.revocations.c.policy_id.in_(own)
    await unit.execute(update(custody.revocations).where(told).values(announced=True))
    await _forget_purged(unit, select(purges.c.id).where(purges.c.policy_id.in_(own)))
    await _hand_over_keys(unit, own)
    for table in OF_POLICIES:
        await unit.execute(delete(table).where(table.c.policy_id.in_(own)))
    requests = select(approval_tables.approvals.c.id).where(approval_tables.approvals.c.tenant_id == tenant.id)
    for table in OF_APPROVALS:
        await unit.execute(delete(table).where(table.c.approval_id.in_(requests)))
    for table in OF_TENANT:
        await unit.execute(delete(table).where(table.c.tenant_id == tenant.id))
    await _forget_alerts(unit, tenant)
    await unit.execute(delete(tenants).where(tenants.c.id == tenant.id))
    return int(count)


async def _forget_alerts(unit: Unit, tenant: Tenant) -> None:
    """Delete what is over; the alert emitter ends what is open, for its subscribers, and forgets it then."""
    signal, alert = alert_tables.alert_signals.c, alert_tables.alerts.c
    mine, is_open = alert.tenant == tenant.name, alert.state == AlertState.OPEN.value
    still = select(alert.topic).where(mine, is_open)
    of_tenant = signal.topic.startswith(f"{tenant.name}/", autoescape=True)
    await unit.execute(delete(alert_tables.alert_signals).where(of_tenant, signal.topic.not_in(still)))
    await unit.execute(delete(alert_tables.alerts).where(mine, ~is_open))


async def _hand_over_keys(unit: Unit, own: Select[tuple[str]]) -> None:
    """Leave availability keys to a policy of the provider's, as retired: the recovery handler destroys those."""
    key, heir = custody.availability_keys.c, select(policies.c.id).join(tenants).where(tenants.c.name == PROVIDER)
    left = update(custody.availability_keys).where(
        key.policy_id.in_(own), key.state != AvailabilityKeyState.DESTROYED.value
    )
    provider = await unit.scalar(heir.order_by(policies.c.name).limit(1))
    if provider is None:
        raise TwinlockError(f"tenant {PROVIDER} has no policy to leave availability keys to", hint="twinlock init")
    await unit.execute(left.values(policy_id=provider, state=RETIRED))


async def _forget_purged(unit: Unit, own: Select[tuple[str]]) -> None:
    """Delete what purges have noted of containers; their certificates are with whoever asked for them."""
    noted = purged_generations.c
    gone = select(noted.container_id).where(noted.purge_id.in_(own))
    await unit.execute(delete(container_wraps).where(container_wraps.c.container_id.in_(gone)))
    await unit.execute(delete(purged_generations).where(noted.purge_id.in_(own)))
