"""One tenant with one site, above a custodian without vaults: no vault is measured here."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from obstore.store import LocalStore
from sqlalchemy import insert

from schemas.identifiers import SERVICE_POLICIES, Workload
from twinlock.clock import SystemClock
from twinlock.content.files import Files
from twinlock.content.filing import Filer
from twinlock.content.keyring import SiteKeyring
from twinlock.content.objects import Objects
from twinlock.content.settings import ContentSettings
from twinlock.content.sites import NewSite, Sites
from twinlock.custody.memory import MemoryCustodian
from twinlock.custody.port import USER, Asker
from twinlock.store.engine import open_engine
from twinlock.store.migrate import upgrade
from twinlock.store.tables.custody import policies, policy_keys
from twinlock.store.tables.tenants import tenants
from twinlock.store.unit import Cause, Store, new_id

SITE = "acme/team"
ASKER = Asker(USER, Cause("bench"))


@dataclass(frozen=True, slots=True)
class SiteBench:
    """Hold the parts that a benchmark of a site works with."""

    store: Store
    objects: Objects
    files: Files


@asynccontextmanager
async def site_bench(folder: Path) -> AsyncIterator[SiteBench]:
    """Open a fresh installation with an empty site in a folder."""
    engine = open_engine(f"sqlite+aiosqlite:///{folder / 'twinlock.db'}")
    await upgrade(engine)
    store = Store(engine, SystemClock(), "urn:twinlock:bench")
    objects = Objects(LocalStore(folder / "objects", mkdir=True), store, ContentSettings())
    custodian = MemoryCustodian(store)
    keyring = SiteKeyring(custodian, store.clock)
    try:
        await _seed(store)
        await Sites(store, custodian, ContentSettings()).add(NewSite("team", "acme", "EUR"), ASKER)
        yield SiteBench(store, objects, Files(store, objects, keyring, Filer(store, objects, keyring)))
    finally:
        await store.close()


async def _seed(store: Store) -> None:
    now = store.clock.now()
    policy = new_id()
    async with store.begin(Cause(new_id())) as unit:
        for name in ("provider", "acme"):
            await unit.execute(insert(tenants).values(id=name, name=name, trial=False, created_at=now))
        await unit.execute(
            insert(policies).values(
                id=policy,
                tenant_id="provider",
                name=SERVICE_POLICIES[Workload.SITE],
                workload=Workload.SITE,
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
