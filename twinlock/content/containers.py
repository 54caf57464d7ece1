"""Read and lock a container's row: the one lock under which its content and its key generations change (law 3)."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, select

from schemas.identifiers import MailboxKind, Workload
from twinlock.custody.port import ContainerRef
from twinlock.errors import NotFound, TwinlockError
from twinlock.store.tables.content import container_keys, containers
from twinlock.store.tables.tenants import tenants
from twinlock.store.unit import Reader, StaleRead, Unit

_CANDIDATES = 10


class Ambiguous(TwinlockError):
    """Say that a name means more than one thing; the message lists them."""


@dataclass(frozen=True, slots=True)
class Generation:
    """Describe one live generation of a container's key; `items` is the exact number of items under it."""

    number: int
    policy_id: str
    policy_key_generation: int
    items: int
    encrypted: int


@dataclass(frozen=True, slots=True)
class Container:
    """Hold a container as one read saw it; generations are in rising order and never empty."""

    id: str
    tenant_id: str
    tenant: str
    name: str
    kind: MailboxKind | None  # a mailbox's
    licensed: bool
    policy_id: str
    version: int
    generations: tuple[Generation, ...]
    geo: str | None = None  # a site's

    @property
    def newest(self) -> Generation:
        """Return the generation under which everything new is encrypted."""
        return self.generations[-1]

    @property
    def live(self) -> frozenset[int]:
        """Return the numbers of all live generations."""
        return frozenset(generation.number for generation in self.generations)

    @property
    def items(self) -> int:
        """Return how many items there are."""
        return sum(generation.items for generation in self.generations)

    def ref(self, generation: int) -> ContainerRef:
        """Name one generation to the custodian."""
        return ContainerRef(self.tenant_id, self.id, generation)


async def find_mailbox(reader: Reader, address: str) -> Container:
    """Return the mailbox with this address, or raise `NotFound`."""
    query = _base().where(containers.c.workload == Workload.MAILBOX, containers.c.name == address)
    found = await _load(reader, query)
    if found is None:
        raise NotFound(f"there is no mailbox {address}", hint=f"add it: twinlock mailbox add {address} --tenant TENANT")
    return found


async def find_site(reader: Reader, reference: str) -> Container:
    """Return the site named TENANT/SITE, or by its name alone where that is unique; raise `NotFound`."""
    named = containers.c.name == (reference if "/" in reference else tenants.c.name + "/" + reference)
    query = _base().where(containers.c.workload == Workload.SITE, named).order_by(containers.c.name)
    found = await _load_all(reader, query.limit(_CANDIDATES))
    if not found:
        raise NotFound(f"there is no site {reference}", hint="add it: twinlock site add SITE --tenant TENANT --geo GEO")
    if len(found) > 1:
        raise Ambiguous(
            f"several sites are called {reference}: {', '.join(site.name for site in found)}",
            hint="name one of them as TENANT/SITE",
        )
    return found[0]


async def load(reader: Reader, container_id: str) -> Container | None:
    """Return a container by its id, or none where it was removed."""
    return await _load(reader, _base().where(containers.c.id == container_id))


async def lock(unit: Unit, container_id: str) -> Container | None:
    """Lock a container's row until the unit ends and return it, or none where it was removed."""
    return await _load(unit, _base().where(containers.c.id == container_id).with_for_update(of=containers))


async def load_all(reader: Reader, ids: Collection[str]) -> list[Container]:
    """Return those of the containers that are still there, by id."""
    return await _load_all(reader, _base().where(containers.c.id.in_(ids)).order_by(containers.c.id))


async def lock_all(unit: Unit, ids: Collection[str]) -> dict[str, Container]:
    """Lock those of the containers that are still there, and return them by their ids.

    In one order for all: two batches with the same containers would otherwise wait for each other.
    """
    query = _base().where(containers.c.id.in_(ids)).order_by(containers.c.id)
    return {found.id: found for found in await _load_all(unit, query.with_for_update(of=containers))}


async def lock_as_read(unit: Unit, seen: Container) -> Container:
    """Lock a container that still has the generations and policy that `seen` had, or raise `StaleRead`."""
    locked = await lock(unit, seen.id)
    if locked is None or not is_as_read(locked, seen):
        raise StaleRead
    return locked


def is_as_read(locked: Container, seen: Container) -> bool:
    """Tell whether a container still has the generations and policy that `seen` had."""
    return (locked.live, locked.version) == (seen.live, seen.version)


async def page(reader: Reader, tenant_id: str, workload: Workload, after: str, size: int) -> list[Container]:
    """Return up to `size` containers of a tenant whose names sort behind `after`."""
    query = (
        _base()
        .where(containers.c.tenant_id == tenant_id, containers.c.workload == workload, containers.c.name > after)
        .order_by(containers.c.name)
        .limit(size)
    )
    return await _load_all(reader, query)


async def page_of_sites(
    reader: Reader, tenant_id: str | None, geo: str | None, after: str, size: int
) -> list[Container]:
    """Return up to `size` sites, of all or of one tenant and geo, whose names sort behind `after`."""
    query = _base().where(containers.c.workload == Workload.SITE, containers.c.name > after)
    if tenant_id is not None:
        query = query.where(containers.c.tenant_id == tenant_id)
    if geo is not None:
        query = query.where(containers.c.geo == geo)
    return await _load_all(reader, query.order_by(containers.c.name).limit(size))


async def page_of_geo(reader: Reader, tenant_id: str, geo: str, after: str, size: int) -> list[Container]:
    """Return up to `size` sites of a tenant's geo, behind the id `after`."""
    row = containers.c
    query = _base().where(row.tenant_id == tenant_id, row.geo == geo, row.id > after).order_by(row.id).limit(size)
    return await _load_all(reader, query)


def _base() -> Select[*tuple[Any, ...]]:
    return select(containers, tenants.c.name.label("tenant")).join(tenants)


async def _load(reader: Reader, query: Select[*tuple[Any, ...]]) -> Container | None:
    found = await _load_all(reader, query)
    return found[0] if found else None


async def _load_all(reader: Reader, query: Select[*tuple[Any, ...]]) -> list[Container]:
    rows = await reader.rows(query)
    generations: dict[str, list[Generation]] = {row.id: [] for row in rows}
    keys = container_keys.c
    for key in await reader.rows(
        select(container_keys).where(keys.container_id.in_(generations)).order_by(keys.generation)
    ):
        generations[key.container_id].append(
            Generation(key.generation, key.policy_id, key.policy_key_generation, key.item_count, key.encrypted_count)
        )
    return [
        Container(
            id=row.id,
            tenant_id=row.tenant_id,
            tenant=row.tenant,
            name=row.name,
            kind=MailboxKind(row.kind) if row.workload == Workload.MAILBOX else None,
            licensed=row.licensed,
            policy_id=row.policy_id,
            version=row.version,
            generations=tuple(generations[row.id]),
            geo=row.geo,
        )
        for row in rows
    ]
