"""What must hold before a policy is made: every check is made, and every one that fails is listed."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import func, select

from schemas.identifiers import PROVIDER, SERVICE_POLICIES, PolicyState, Workload
from schemas.requests import PolicyRequested
from twinlock.custody.port import Probe
from twinlock.keys.ports import Outcome
from twinlock.keys.uris import copied, vault_of
from twinlock.store.tables.custody import policies
from twinlock.store.tables.tenants import tenants
from twinlock.store.unit import Reader


@dataclass(frozen=True, slots=True)
class FailedCheck:
    """Name a check that failed, the key or name that it is about, and the fix."""

    check: str
    about: str
    detail: str

    def __str__(self) -> str:
        return f"{self.about}: {self.detail}"

    def document(self) -> dict[str, str]:
        """Return it as it stands in an answer."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Standing:
    """Hold what the checks made of a request: the tenant, where it exists, and what failed."""

    tenant_id: str | None
    failed: tuple[FailedCheck, ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """Say how many policies a tenant may have: for mailboxes in all, for sites in each geo."""

    mailbox: int
    geo: int


async def check_standing(reader: Reader, wanted: PolicyRequested, limits: Limits) -> Standing:
    """Check what the database knows: tenant, name, licence and limit."""
    tenant = await reader.row(select(tenants).where(tenants.c.name == wanted.tenant))
    if tenant is None:
        missing = FailedCheck("tenant", wanted.tenant, f"there is no such tenant; twinlock tenant add {wanted.tenant}")
        return Standing(None, (missing,))
    failed = list(_reserved(wanted))
    if tenant.trial:
        failed.append(
            FailedCheck(
                "licence", wanted.tenant, "a trial tenant can't have customer policies; use one added without --trial"
            )
        )
    named = select(policies.c.id).where(policies.c.tenant_id == tenant.id, policies.c.name == wanted.name)
    if await reader.row(named) is not None:
        failed.append(FailedCheck("name", wanted.name, f"{wanted.tenant} has a policy of this name; choose another"))
    if wanted.tenant != PROVIDER:
        failed += await _beyond_limit(reader, tenant.id, wanted, limits)
    return Standing(tenant.id, tuple(failed))


async def _beyond_limit(reader: Reader, tenant_id: str, wanted: PolicyRequested, limits: Limits) -> list[FailedCheck]:
    policy = policies.c
    count = select(func.count()).where(
        policy.tenant_id == tenant_id, policy.workload == wanted.workload, policy.state != PolicyState.PURGED
    )
    most, what, setting = limits.mailbox, "mailbox policies", "policies_per_tenant"
    if wanted.workload is Workload.SITE:
        count = count.where(policy.geo == wanted.geo)
        most, what, setting = limits.geo, f"site policies in geo {wanted.geo}", "policies_per_geo"
    if await reader.scalar(count) < most:
        return []
    full = f"it has {most} {what}, the most it may; assign to one of them, or raise workers.{setting}"
    return [FailedCheck("limit", wanted.tenant, full)]


def _reserved(wanted: PolicyRequested) -> Sequence[FailedCheck]:
    own = SERVICE_POLICIES[wanted.workload]
    if wanted.tenant == PROVIDER and wanted.name != own:
        return [FailedCheck("name", wanted.name, f"the provider's own policy of this workload is called {own}")]
    if wanted.tenant != PROVIDER and wanted.name in SERVICE_POLICIES.values():
        return [FailedCheck("name", wanted.name, "only the provider's own policy has this name; choose another")]
    return []


def check_pair(uris: Sequence[str]) -> Sequence[FailedCheck]:
    """Check that the two root keys lie in two different vaults."""
    if len({copied(uri) for uri in uris}) < len(uris):
        return [FailedCheck("two-keys", uris[1], "it is the other key, or its copy in another region; use another key")]
    vaults = {vault_of(uri).lower() for uri in uris}
    if len(vaults) == len(uris):
        return []
    return [FailedCheck("two-vaults", uris[1], "it lies in the vault of the other key; use a key in another")]


def check_key(probe: Probe) -> Sequence[FailedCheck]:
    """Check what a live probe of a root key found: all that is wrong with it, not the first fault only."""
    failed = []
    if probe.outcome is not Outcome.OK:
        failed.append(FailedCheck("round-trip", probe.uri, f"{probe.outcome}: {probe.detail}"))
    if probe.description is not None:
        if probe.description.expires is not None:
            when = probe.description.expires.date().isoformat()
            failed.append(FailedCheck("no-expiry", probe.uri, f"it expires on {when}; remove its expiry date"))
        if not probe.description.recoverable:
            found = "it may be gone once deleted; turn soft delete and protection from purging on"
            failed.append(FailedCheck("recoverable", probe.uri, found))
    return failed
