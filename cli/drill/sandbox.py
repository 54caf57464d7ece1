"""The sandbox of a drill: a home of its own in a temporary folder, with fresh keys in embedded vaults.

It is made with the commands that people type, and by the real machine's clock. Then a custodian as it runs in real
life, with the numbers of the real settings, is set on a clock that moves only when the drill says so: a day of
waiting takes seconds.
"""

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import select

from cli.commands import init, key, mailbox, policy, site, tenant
from cli.drill.recovering import Recovery
from cli.drill.scenario import ROOTS
from cli.home import VAULTS
from cli.progress import Shows
from cli.session import Session, open_session
from cli.setting_rules import EMBEDDED
from cli.settings import Settings
from cli.wiring import open_store
from cli.wiring.embedded import local_custodian
from cli.wiring.vendors import VENDORS
from schemas.identifiers import Workload
from twinlock.clock import ManualClock, SystemClock
from twinlock.custody.custodian import LocalCustodian
from twinlock.custody.errors import KeyNotYet, KeyRefused
from twinlock.custody.policies import Policy
from twinlock.custody.port import Asker, ContainerRef, Initiator
from twinlock.custody.wiping import wipe
from twinlock.store.tables.content import containers
from twinlock.store.tables.tenants import tenants
from twinlock.store.unit import Cause, Store, new_id
from twinlock.vaults.software.local import LocalVault

TENANT, NAME, GEO = "drill", "drill", "DRILL"
_PATIENCE = 90.0  # of the readers in the sandbox, longer than the proof of an outage takes


@dataclass(slots=True)
class Sandbox:
    """Hold a custodian that has a policy key in memory, the vaults that it asks, and the clock of both."""

    clock: ManualClock
    custodian: LocalCustodian
    vault: LocalVault
    containers: list[ContainerRef]
    recovery: Recovery
    asked: int = field(default=0)

    async def serves(self, initiator: Initiator) -> bool:
        """Say whether a key of the next container in turn is handed out now."""
        ref = self.containers[self.asked % len(self.containers)]
        self.asked += 1
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(self._opens(ref, Asker(initiator, Cause(new_id()), _PATIENCE)))
            while not asking.done():  # it may wait on this clock: for the proof of an outage, for one
                if self.clock.sleepers:
                    self.clock.advance(1)
                await asyncio.sleep(0)
        return asking.result()

    async def _opens(self, ref: ContainerRef, asker: Asker) -> bool:
        try:
            opened = await self.custodian.open_container_key(ref, asker)
        except (KeyRefused, KeyNotYet):
            return False
        wipe(opened.key)
        return True


@asynccontextmanager
async def open_sandbox(real: Settings, model: Policy, count: int, timeout: float) -> AsyncIterator[Sandbox]:
    """Make a policy like `model` with a few containers in a temporary home; with the block all of it is gone."""
    with _silent(), tempfile.TemporaryDirectory(prefix="twinlock-drill-") as folder:
        own = _settings(real, Path(folder) / "home")
        recovery = Recovery(own, Path(folder), f"{TENANT}/{NAME}", timeout)
        await init.make_home(own, timeout)
        async with open_session(own, timeout, wait=True, shows=Shows.NOTHING) as session:
            await _furnish(session, model, count)
            await recovery.prepare(session, TENANT)
        clock = ManualClock(SystemClock().now())
        async with open_store(own, clock) as store, local_custodian(own, clock, store) as custodian:
            yield Sandbox(clock, custodian, LocalVault(own.home / VAULTS, clock), await _containers(store), recovery)


def _settings(real: Settings, home: Path) -> Settings:
    """Take over the numbers of the real settings, and nothing that leads to anything real."""
    nowhere = {"home": home, "secrets": None, "broker": EMBEDDED, "database": "", "objects": ""}
    vendors = {vendor.name: Settings.model_fields[vendor.name].default for vendor in VENDORS}
    return real.model_copy(update={**nowhere, **vendors})


@contextmanager
def _silent() -> Iterator[None]:
    """Keep what happens in the sandbox out of the log of the real home."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


async def _furnish(session: Session, model: Policy, count: int) -> None:
    await tenant.add(session, TENANT)
    for uri in ROOTS:
        await key.create(session, uri)
    geo = GEO if model.workload is Workload.SITE else None
    await policy.create(session, TENANT, NAME, model.workload, list(ROOTS), model.mode, geo)
    if geo is not None:
        await policy.assign(session, f"{TENANT}/{NAME}", geo=[geo])
    for number in range(count):
        if geo is None:
            await mailbox.add(session, f"{number}@drill.example", TENANT)
        else:
            await site.add(session, f"site-{number}", TENANT, geo)
    if geo is None:
        await policy.assign(session, f"{TENANT}/{NAME}", all_mailboxes=True)


async def _containers(store: Store) -> list[ContainerRef]:
    row = containers.c
    query = select(row.tenant_id, row.id, row.newest_generation).join(tenants).where(tenants.c.name == TENANT)
    async with store.read() as reader:
        found = await reader.rows(query.order_by(row.id))
    return [ContainerRef(each.tenant_id, each.id, each.newest_generation) for each in found]
