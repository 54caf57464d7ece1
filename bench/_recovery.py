"""A tenant whose policy has lost both root keys, above real custodians and vaults in memory.

Its containers, as many as wanted, are rows alone: what a recovery has to do does not depend on what lies in them.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select

from events.consumer import ConsumerRuntime
from events.embedded import EmbeddedTransport
from events.ladder import Ladder
from events.publisher import Publisher
from events.relay import Relay
from schemas.identifiers import AvailabilityMode, GeoState, Workload
from schemas.names import DEP_ASSIGNER
from schemas.requests import PolicyRequested, RecoveryRequested
from twinlock.approvals.acting import Approvals
from twinlock.approvals.installation import ensure_installation
from twinlock.approvals.rows import list_approvals
from twinlock.approvals.settings import ApprovalSettings
from twinlock.approvals.statement import parse
from twinlock.clock import SystemClock
from twinlock.custody.audit.log import AuditLog
from twinlock.custody.custodian import LocalCustodian
from twinlock.custody.lifecycle.recovering import LocalRecovering
from twinlock.custody.policies import Policy, find_policy, list_policies
from twinlock.custody.port import USER, Asker, ContainerRef
from twinlock.keys.ports import Outcome
from twinlock.keys.signing import SigningKey
from twinlock.store.engine import open_engine
from twinlock.store.migrate import upgrade
from twinlock.store.tables.content import container_keys, containers
from twinlock.store.tables.tenants import tenants
from twinlock.store.tables.work import geos
from twinlock.store.unit import Cause, Store, new_id
from twinlock.vaults.directory import VaultDirectory
from twinlock.vaults.software.memory import MemoryVault
from workers.roster import Workplace, handlers_of, routes_of, upkeep_of
from workers.runtime import Fleet
from workers.settings import WorkerSettings

OLD, NEW = ("memory://a/old", "memory://b/old"), ("memory://c/new", "memory://d/new")
GEO, BATCH = "EUR", 500
ASKER = Asker(USER, Cause("bench"), deadline=60.0)
_POLL = 0.01


@dataclass(frozen=True, slots=True)
class Lost:
    """Hold an installation in which a policy waits for the last signature."""

    store: Store
    vault: MemoryVault
    custodian: LocalCustodian
    recovering: LocalRecovering
    approvals: Approvals
    keys: dict[str, SigningKey]

    async def policy(self) -> Policy:
        """Read the policy."""
        async with self.store.read() as reader:
            return await find_policy(reader, "acme/p")

    async def fill(self, workload: Workload, count: int) -> list[ContainerRef]:
        """Add containers under the policy, each with its first key."""
        policy = await self.policy()
        refs = [ContainerRef(policy.tenant_id, f"{number:07}", 1) for number in range(count)]
        for start in range(0, count, BATCH):
            made = await self.custodian.make_container_keys(refs[start : start + BATCH], policy.id, ASKER)
            now = self.store.clock.now()
            async with self.store.begin(ASKER.cause) as unit:
                rows = [_container(each.ref, policy, workload, now) for each in made]
                await unit.execute(insert(containers), rows)
                await unit.execute(insert(container_keys), [_key(each, now) for each in made])
        if workload is Workload.SITE:
            row = {"tenant_id": policy.tenant_id, "geo": GEO, "policy_id": policy.id, "version": 1}
            async with self.store.begin(ASKER.cause) as unit:
                state = {"state": GeoState.REGISTERED, "since": self.store.clock.now()}
                await unit.execute(insert(geos).values(row | state))
        return refs

    async def lose(self) -> str:
        """Lose both root keys and ask for a recovery; return the request that its first approver has signed."""
        for uri in OLD:
            self.vault.hold(uri, Outcome.DENIED)
        for uri in NEW:
            await self.vault.create_root_key(uri)
        await Publisher(self.store).request(RecoveryRequested(policy="acme/p", keys=NEW, reason="both lost"))
        await until(self._requests)
        (request,) = await self._requests()
        await self.sign(request, "ann")
        return request

    async def _requests(self) -> Sequence[str]:
        async with self.store.read() as reader:
            return [each.id for each in await list_approvals(reader)]

    async def sign(self, request: str, name: str) -> None:
        """Have an approver sign."""
        async with self.store.read() as reader:
            (found,) = [each for each in await list_approvals(reader) if each.id == request]
        said = parse(found.statement)
        await self.approvals.approve(ASKER.cause, request, name, self.keys[name].sign(said.label, said.body))

    async def geo_is(self, state: GeoState) -> bool:
        """Say whether the geo is so far."""
        async with self.store.read() as reader:
            return bool(await reader.scalar(select(geos.c.state)) == state)

    @asynccontextmanager
    async def working(self, *names: str) -> AsyncIterator[None]:
        """Run these workers, and the custodian."""
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            confirming = group.create_task(self.custodian.epoch.run())
            group.create_task(self._fleet(names).run(stop))
            yield
            stop.set()
            confirming.cancel()

    def _fleet(self, names: Sequence[str]) -> Fleet:
        clock, settings, none = self.store.clock, WorkerSettings(), _nothing()
        place = Workplace(self.store, self.custodian, none, none, none, settings, self.recovering)
        handlers = handlers_of(place, names)
        transport = EmbeddedTransport(self.store, clock, routes_of(handlers))
        consumers = ConsumerRuntime(self.store, transport, handlers, clock, Ladder())
        periodic = [each for name in names for each in upkeep_of(place, [name])]
        return Fleet(names, self.store, Relay(self.store, transport, clock), consumers, periodic, clock, settings)


def _nothing() -> Any:
    return None  # what re-encrypts content has nothing to do here


def _container(ref: ContainerRef, policy: Policy, workload: Workload, now: Any) -> dict[str, Any]:
    site = workload is Workload.SITE
    return {
        "id": ref.container_id,
        "tenant_id": ref.tenant_id,
        "workload": workload,
        "name": f"acme/{ref.container_id}" if site else f"{ref.container_id}@acme.example",
        "kind": "user",
        "licensed": True,
        "geo": GEO if site else None,
        "policy_id": policy.id,
        "newest_generation": 1,
        "version": 1,
        "created_at": now,
    }


def _key(made: Any, now: Any) -> dict[str, Any]:
    return {
        "container_id": made.ref.container_id,
        "generation": made.ref.generation,
        "policy_id": made.policy_id,
        "policy_key_generation": made.policy_key_generation,
        "wrapped": made.wrapped,
        "commitment": made.commitment,
        "item_count": 0,
        "encrypted_count": 0,
        "created_at": now,
    }


@asynccontextmanager
async def lost(folder: Path, workload: Workload) -> AsyncIterator[Lost]:
    """Open a fresh installation with a policy and two approvers."""
    engine, clock = open_engine(f"sqlite+aiosqlite:///{folder / 'twinlock.db'}"), SystemClock()
    await upgrade(engine)
    store = Store(engine, clock, "urn:twinlock:bench")
    vault, provider, audit = MemoryVault(clock), MemoryVault(clock), AuditLog(store, "bench", bytes(32), clock)
    vaults = VaultDirectory({"memory": vault})
    custodian = LocalCustodian(store, vaults, provider, audit, clock)
    recovering = LocalRecovering(store, vaults, provider, audit, clock)
    keys = {name: SigningKey.generate() for name in ("ann", "bob")}
    found = Lost(store, vault, custodian, recovering, Approvals(store, audit, ApprovalSettings(), tells=True), keys)
    try:
        await _seed(found, workload)
        yield found
    finally:
        custodian.close()
        await store.close()


async def _seed(found: Lost, workload: Workload) -> None:
    async with found.store.begin(Cause(new_id())) as unit:
        await ensure_installation(unit)
        row = {"id": new_id(), "name": "acme", "trial": False, "created_at": found.store.clock.now()}
        await unit.execute(insert(tenants).values(row))
    for name, key in found.keys.items():
        await found.approvals.add_approver(ASKER.cause, "acme", name, key.public)
    for uri in OLD:
        await found.vault.create_root_key(uri)
    mode = AvailabilityMode.RECOVERY_ONLY if workload is Workload.SITE else AvailabilityMode.STANDARD
    geo = GEO if workload is Workload.SITE else None
    wanted = PolicyRequested(tenant="acme", name="p", workload=workload, mode=mode, keys=OLD, geo=geo)
    async with found.working(DEP_ASSIGNER):
        await Publisher(found.store).request(wanted)
        await until(lambda: _policies(found.store))


async def _policies(store: Store) -> Sequence[Policy]:
    async with store.read() as reader:
        return await list_policies(reader)


async def until(happened: Callable[[], Awaitable[object]]) -> None:
    """Look until something has happened."""
    clock = SystemClock()
    while not await happened():
        await clock.sleep(_POLL)
