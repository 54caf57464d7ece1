"""Read policies: by id, by name, or the provider's own."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.engine import Row

from schemas.identifiers import (
    PROVIDER,
    SERVICE_POLICIES,
    SERVICE_POLICY,
    AvailabilityMode,
    PolicyHealth,
    PolicyState,
    Workload,
)
from twinlock.errors import NotFound
from twinlock.store.tables.custody import policies
from twinlock.store.tables.tenants import tenants
from twinlock.store.unit import Reader


@dataclass(frozen=True, slots=True)
class Policy:
    """Hold a policy as one read saw it."""

    id: str
    tenant_id: str
    tenant: str
    name: str
    workload: Workload
    mode: AvailabilityMode
    state: PolicyState
    health: PolicyHealth
    newest_generation: int
    version: int
    geo: str | None = None

    @property
    def is_service(self) -> bool:
        """Tell whether it is the provider's own, under which everything is that no customer policy protects."""
        return self.tenant == PROVIDER

    def __str__(self) -> str:
        return self.name if self.is_service else f"{self.tenant}/{self.name}"


async def find_policy(reader: Reader, reference: str, workload: Workload = Workload.MAILBOX) -> Policy:
    """Return the policy named by its id, as TENANT/NAME, or the provider's own by its name alone; raise `NotFound`.

    `service` means the provider's policy of this workload.
    """
    tenant, slash, name = reference.partition("/")
    if reference in SERVICE_POLICIES.values():
        own = SERVICE_POLICIES[workload] if reference == SERVICE_POLICY else reference
        query = _base().where(tenants.c.name == PROVIDER, policies.c.name == own)
    elif slash:
        query = _base().where(tenants.c.name == tenant, policies.c.name == name)
    else:
        query = _base().where(policies.c.id == reference)
    row = await reader.row(query)
    if row is None:
        raise NotFound(
            f"there is no policy {reference}", hint="name it by its id or as TENANT/NAME; see: twinlock policy list"
        )
    return _policy(row)


async def load_policy(reader: Reader, policy_id: str) -> Policy | None:
    """Return a policy by its id, or none."""
    row = await reader.row(_base().where(policies.c.id == policy_id))
    return None if row is None else _policy(row)


async def list_policies(reader: Reader, tenant: str | None = None) -> list[Policy]:
    """Return all policies, or those of a tenant, by tenant and name."""
    query = _base().order_by(tenants.c.name, policies.c.name)
    return [
        _policy(row) for row in await reader.rows(query if tenant is None else query.where(tenants.c.name == tenant))
    ]


def _base() -> Select[*tuple[Any, ...]]:
    return select(policies, tenants.c.name.label("tenant")).join(tenants)


def _policy(row: Row[Any]) -> Policy:
    return Policy(
        id=row.id,
        tenant_id=row.tenant_id,
        tenant=row.tenant,
        name=row.name,
        workload=Workload(row.workload),
        mode=AvailabilityMode(row.mode),
        state=PolicyState(row.state),
        health=PolicyHealth(row.health),
        newest_generation=row.newest_generation,
        version=row.version,
        geo=row.geo,
    )
