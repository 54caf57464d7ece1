"""Sites as a whole: add, describe, list and remove. A site starts under its geo's policy, or the provider's own."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select

from schemas.identifiers import Workload
from twinlock.content import containers, generations
from twinlock.content.containers import Container
from twinlock.content.deleting import delete_files, note_removal, remove_empty
from twinlock.content.mailboxes import service_policy, tenant_id_of
from twinlock.content.settings import ContentSettings
from twinlock.custody.audit.log import AuditLog
from twinlock.custody.port import Asker, ContainerRef, Custodian
from twinlock.errors import AlreadyExists, NotFound, TwinlockError
from twinlock.store.once import insert_once
from twinlock.store.tables import content as tables
from twinlock.store.tables.tenants import tenants
from twinlock.store.tables.work import geos
from twinlock.store.unit import Cause, Reader, StaleRead, Store, Unit, new_id

_KIND = "site"
_PAGE = 200
_TRIES = 20


@dataclass(frozen=True, slots=True)
class NewSite:
    """Say which site is to be added; `name` is without the tenant."""

    name: str
    tenant: str
    geo: str

    @property
    def full_name(self) -> str:
        """Return the name by which the site is known everywhere."""
        return f"{self.tenant}/{self.name}"


@dataclass(frozen=True, slots=True)
class SiteStatus:
    """Describe a site as its administrators see it.

    `policy` is None under the provider's own. `files_encrypted` counts the files whose site key is wrapped by the
    newest key of the site's policy.
    """

    name: str
    tenant: str
    geo: str
    policy: str | None
    policy_version: int
    files: int
    bytes: int
    files_encrypted: int

    @property
    def is_encrypted(self) -> bool:
        """Tell whether a customer policy protects it with all of its files."""
        return self.policy is not None and self.files == self.files_encrypted


class Sites:
    """Add, describe, list and remove sites."""

    def __init__(self, store: Store, custodian: Custodian, settings: ContentSettings) -> None:
        self._store = store
        self._custodian = custodian
        self._settings = settings

    async def add(self, new: NewSite, asker: Asker) -> None:
        """Add an empty site; raise `AlreadyExists` or `NotFound`, as the custodian does."""
        for _ in range(_TRIES):
            try:
                return await self._try_to_add(new, asker)
            except StaleRead:
                continue
        raise TwinlockError("the policy of the geo keeps changing", hint="run the command again")

    async def _try_to_add(self, new: NewSite, asker: Asker) -> None:
        async with self._store.read() as reader:
            tenant_id = await tenant_id_of(reader, new.tenant)
            await _refuse_taken(reader, new)
            policy = await _policy_for(reader, tenant_id, new.geo)
        ref = ContainerRef(tenant_id, new_id(), 1)
        (made,) = await self._custodian.make_container_keys([ref], policy, asker)
        async with self._store.begin(asker.cause) as unit:
            # Who assigns a policy to a geo locks the tenant, too, and then goes through all of the geo's sites.
            await unit.execute(select(tenants.c.id).where(tenants.c.id == tenant_id).with_for_update(read=True))
            if policy != await _policy_for(unit, tenant_id, new.geo):
                raise StaleRead
            await _refuse_taken(unit, new)
            # Two at once both find the name free; the second one waits here for the first.
            added = await unit.execute(insert_once(unit, tables.containers).values(_row(unit, new, ref, policy)))
            if not added.rowcount:
                raise _taken(new)
            await generations.add_first(unit, made)

    async def show(self, site: str) -> SiteStatus:
        """Describe the site named TENANT/SITE, or by its name alone where that is unique."""
        async with self._store.read() as reader:
            found = await containers.find_site(reader, site)
            (status,) = await _statuses(reader, [found])
        return status

    async def list(self, tenant: str | None = None, geo: str | None = None) -> AsyncIterator[SiteStatus]:
        """Yield all sites, or those of a tenant, of a geo, by name."""
        last = ""
        while True:
            async with self._store.read() as reader:
                tenant_id = None if tenant is None else await tenant_id_of(reader, tenant)
                page = await containers.page_of_sites(reader, tenant_id, geo, last, _PAGE)
                statuses = await _statuses(reader, page)
            for status in statuses:
                yield status
            if len(page) < _PAGE:
                return
            last = page[-1].name

    async def remove(self, site: str, cause: Cause, audit: AuditLog | None = None) -> int:
        """Remove a site with all its files, also while a step re-encrypts them; return how many files it had.

        The files go in bounded transactions, so that a large site holds up nobody (law 12), and the site in the last
        one. Cut off in the middle, it is there with what is left of it, and another removal goes on.
        """
        async with self._store.read() as reader:
            found = await containers.find_site(reader, site)
        row, most, removed = tables.files.c, self._settings.batch_items, 0
        first = select(row.id).where(row.container_id == found.id).order_by(row.id).limit(most)
        while True:
            async with self._store.begin(cause) as unit:
                locked = await containers.lock(unit, found.id)
                if locked is None:
                    raise NotFound(f"there is no site {site}")
                gone = await delete_files(unit, locked, row.id.in_(first))
                removed += sum(file.object_name is not None for file in gone)
                if len(gone) < most:
                    await remove_empty(unit, locked)
                    await note_removal(unit, "site-removed", locked, removed, audit)
                    return removed


async def _policy_for(reader: Reader, tenant_id: str, geo: str) -> str:
    row = geos.c
    own = await reader.scalar(select(row.policy_id).where(row.tenant_id == tenant_id, row.geo == geo))
    return own if isinstance(own, str) else await service_policy(reader, Workload.SITE)


async def _statuses(reader: Reader, sites: Sequence[Container]) -> list[SiteStatus]:
    service = await service_policy(reader, Workload.SITE)
    row = tables.files.c
    sums = await reader.rows(
        select(row.container_id, func.sum(row.size).label("bytes"))
        .where(row.container_id.in_([site.id for site in sites]))
        .group_by(row.container_id)
    )
    sizes = {found.container_id: int(found.bytes) for found in sums}
    return [_status(site, service, sizes.get(site.id, 0)) for site in sites]


def _status(site: Container, service: str, size: int) -> SiteStatus:
    target = (site.policy_id, site.newest.policy_key_generation)
    done = sum(key.items for key in site.generations if (key.policy_id, key.policy_key_generation) == target)
    return SiteStatus(
        name=site.name,
        tenant=site.tenant,
        geo=site.geo or "",
        policy=None if site.policy_id == service else site.policy_id,
        policy_version=site.newest.policy_key_generation,
        files=site.items,
        bytes=size,
        files_encrypted=done,
    )


async def _refuse_taken(reader: Reader, new: NewSite) -> None:
    row = tables.containers.c
    taken = select(row.id).where(row.workload == Workload.SITE, row.name == new.full_name)
    if await reader.row(taken) is not None:
        raise _taken(new)


def _taken(new: NewSite) -> AlreadyExists:
    return AlreadyExists(f"the site {new.full_name} exists", hint=f"see it: twinlock site show {new.full_name}")


def _row(unit: Unit, new: NewSite, ref: ContainerRef, policy_id: str) -> dict[str, object]:
    return {
        "id": ref.container_id,
        "tenant_id": ref.tenant_id,
        "workload": Workload.SITE,
        "name": new.full_name,
        "kind": _KIND,
        "licensed": True,
        "geo": new.geo,
        "policy_id": policy_id,
        "newest_generation": ref.generation,
        "version": 1,
        "created_at": unit.clock.now(),
    }
