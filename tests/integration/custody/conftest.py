"""A custodian on real rows and memory vaults: the customer's, the provider's own, one tenant, policies on demand."""

import asyncio
import json
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, TypeVar

import pytest
from sqlalchemy import insert, select, update

from schemas.identifiers import AvailabilityMode, PolicyState, Slot, Workload
from twinlock.clock import ManualClock
from twinlock.custody.audit.log import AuditLog
from twinlock.custody.custodian import LocalCustodian
from twinlock.custody.port import (
    USER,
    Asker,
    ContainerRef,
    Initiator,
    MadePolicyKey,
    OpenedKey,
    PolicyKeyOrder,
    WrappedContainerKey,
    service,
)
from twinlock.custody.settings import CustodySettings
from twinlock.keys.ports import KeyDescription, Outcome, VaultFailure
from twinlock.store.tables.bus import outbox
from twinlock.store.tables.content import container_keys, containers
from twinlock.store.tables.custody import (
    audit_entries,
    availability_keys,
    policies,
    policy_key_copies,
    policy_keys,
    root_key_pins,
    root_keys,
    verdicts,
)
from twinlock.store.tables.tenants import tenants
from twinlock.store.unit import Cause, Store, Unit
from twinlock.vaults.directory import VaultDirectory
from twinlock.vaults.software.memory import MemoryVault

CAUSE = Cause("test")
MAC_KEY = bytes(32)
T = TypeVar("T")


@dataclass(slots=True)
class Custody:
    """Hold what a test of the custodian needs, and do by hand what other parts of the program would."""

    store: Store
    clock: ManualClock
    vault: MemoryVault
    provider: MemoryVault
    settings: CustodySettings = field(default_factory=CustodySettings)
    custodian: LocalCustodian = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self, **settings: Any) -> LocalCustodian:
        """Go on with a custodian of a fresh process, on the same store and vaults."""
        self.settings = replace(self.settings, **settings)
        self.custodian = self.process()
        return self.custodian

    def process(self, store: Store | None = None) -> LocalCustodian:
        """Start a custodian as another process would."""
        store = store or self.store
        audit = AuditLog(store, "custodian", MAC_KEY, self.clock)
        vaults = VaultDirectory({"memory": self.vault})
        rng = Random(1)  # noqa: S311  # the order of slots must be the same in every run
        return LocalCustodian(store, vaults, self.provider, audit, self.clock, settings=self.settings, rng=rng)

    async def policy(
        self, name: str, mode: AvailabilityMode = AvailabilityMode.STANDARD, workload: Workload = Workload.MAILBOX
    ) -> str:
        """Make a policy with two new root keys, stored as the assigner stores it; its id is its name."""
        for uri in self.roots(name):
            await self.vault.create_root_key(uri)
        order = PolicyKeyOrder("acme", name, 1, mode, self.roots(name))
        made = await self.custodian.make_policy_key(order, self.asker())
        async with self.store.begin(CAUSE) as unit:
            await self._store_policy(unit, name, mode, workload)
            await self._store_roots(unit, name, made)
            await unit.execute(
                insert(policy_keys).values(
                    policy_id=name, generation=1, commitment=made.commitment, created_at=self.clock.now()
                )
            )
            await unit.execute(insert(policy_key_copies), [_copy(name, slot, copy) for slot, copy in made.copies])
        return name

    async def _store_policy(self, unit: Unit, name: str, mode: AvailabilityMode, workload: Workload) -> None:
        await unit.execute(
            insert(policies).values(
                id=name,
                tenant_id="acme",
                name=name,
                workload=workload,
                mode=mode,
                state="active",
                health="healthy",
                newest_generation=1,
                version=1,
                created_at=self.clock.now(),
            )
        )

    async def _store_roots(self, unit: Unit, name: str, made: MadePolicyKey) -> None:
        for slot, root in zip((Slot.A, Slot.B), made.roots, strict=True):
            await unit.execute(insert(root_keys).values(policy_id=name, slot=slot, **_root(root)))
            await unit.execute(insert(root_key_pins).values(policy_id=name, slot=slot, **_pin(root, self.clock)))
        if Slot.AVAILABILITY in dict(made.copies):
            uri = self.settings.availability_uri(name)
            await unit.execute(insert(availability_keys).values(policy_id=name, uri=uri, state="present"))

    async def container(self, policy: str, name: str = "box", workload: Workload = Workload.MAILBOX) -> ContainerRef:
        """Make a container under a policy, with its first key."""
        ref = ContainerRef("acme", name, 1)
        (made,) = await self.custodian.make_container_keys([ref], policy, self.asker())
        async with self.store.begin(CAUSE) as unit:
            await unit.execute(insert(containers).values(_container(name, policy, workload, self.clock)))
            await unit.execute(insert(container_keys).values(_container_key(made, self.clock)))
        await self.custodian.epoch.leave()
        self.restart()
        return ref

    async def sites(self, policy: str, count: int) -> list[ContainerRef]:
        """Make many sites under a policy, each with its first key."""
        refs = [ContainerRef("acme", f"{policy}-{number}", 1) for number in range(count)]
        made = await self.custodian.make_container_keys(refs, policy, self.asker())
        rows = [_container(ref.container_id, policy, Workload.SITE, self.clock) for ref in refs]
        async with self.store.begin(CAUSE) as unit:
            await unit.execute(insert(containers), rows)
            await unit.execute(insert(container_keys), [_container_key(each, self.clock) for each in made])
        await self.custodian.epoch.leave()
        self.restart()
        return refs

    async def set_state(self, policy: str, state: PolicyState) -> None:
        """Put a policy into a state, as a revocation does."""
        async with self.store.begin(CAUSE) as unit:
            row = policies.c
            await unit.execute(update(policies).where(row.id == policy).values(state=state, version=row.version + 1))

    async def open(
        self, ref: ContainerRef, initiator: Initiator = USER, custodian: LocalCustodian | None = None
    ) -> OpenedKey:
        """Open a container key within one short deadline, so that nothing waits."""
        return await (custodian or self.custodian).open_container_key(ref, self.asker(initiator, 0.9))

    async def open_patiently(self, ref: ContainerRef, initiator: Initiator = USER, deadline: float = 90) -> OpenedKey:
        """Open a container key while the clock moves on whenever somebody waits for it."""
        return await self.moving(self.custodian.open_container_key(ref, self.asker(initiator, deadline)))

    async def moving(self, work: Awaitable[T]) -> T:
        """Move the clock on, second by second, whenever the work waits for it."""

        async def _run() -> T | Exception:
            try:
                return await work
            except Exception as fault:  # noqa: BLE001  # it is raised again below, outside the group
                return fault

        async with asyncio.TaskGroup() as group:
            task = group.create_task(_run())
            while not task.done():
                if self.clock.sleepers:
                    self.clock.advance(1)
                await asyncio.sleep(0)
        found = task.result()
        if isinstance(found, Exception):
            raise found
        return found

    def asker(self, initiator: Initiator = USER, deadline: float = 60.0) -> Asker:
        """Ask on somebody's behalf."""
        return Asker(initiator, CAUSE, deadline)

    def roots(self, policy: str) -> tuple[str, str]:
        """Name the two root keys of a policy."""
        return f"memory://east/{policy}", f"memory://west/{policy}"

    def availability(self, policy: str) -> str:
        """Name the availability key of a policy."""
        return self.settings.availability_uri(policy)

    def hold(self, policy: str, a: Outcome | VaultFailure, b: Outcome | VaultFailure) -> None:
        """Have both root keys answer so from now on."""
        for uri, answer in zip(self.roots(policy), (a, b), strict=True):
            self.vault.hold(uri, answer)

    def asked(self, policy: str) -> int:
        """Count the unwraps that root keys of a policy were asked for."""
        return sum(self.vault.calls["unwrap", uri] for uri in self.roots(policy))

    def availability_asked(self, policy: str) -> int:
        """Count the unwraps that the availability key of a policy was asked for."""
        return self.provider.calls["unwrap", self.availability(policy)]

    async def audit(self) -> Sequence[Any]:
        """Return the audit log."""
        async with self.store.read() as reader:
            return await reader.rows(select(audit_entries).order_by(audit_entries.c.sequence))

    async def events(self, kind: str) -> list[dict[str, Any]]:
        """Return the data of all events of a type, oldest first."""
        async with self.store.read() as reader:
            rows = await reader.rows(select(outbox.c.body).where(outbox.c.type == f"twinlock.{kind}.v1"))
        return [json.loads(row.body)["data"] for row in rows]

    async def alerts(self) -> list[str]:
        """Return the kinds of all alerts, oldest first."""
        return [alert["kind"] for alert in await self.events("alert.raised")]

    async def verdicts(self, policy: str) -> dict[str, tuple[str | None, str]]:
        """Return the definite and the last verdict of each slot."""
        async with self.store.read() as reader:
            rows = await reader.rows(select(verdicts).where(verdicts.c.policy_id == policy))
        return {row.slot: (row.definite, row.outcome) for row in rows}


SERVICE = service("index")


def _root(root: KeyDescription) -> dict[str, Any]:
    return {"uri": root.uri, "identity": root.identity, "version": root.version}


def _pin(root: KeyDescription, clock: ManualClock) -> dict[str, Any]:
    return {"version": root.version, "fingerprint": root.fingerprint, "pinned_at": clock.now()}


def _copy(policy: str, slot: Slot, copy: Any) -> dict[str, Any]:
    return {
        "policy_id": policy,
        "generation": 1,
        "slot": slot,
        "uri": copy.uri,
        "key_version": copy.version,
        "identity": copy.identity,
        "ciphertext": copy.ciphertext,
    }


def _container(name: str, policy: str, workload: Workload, clock: ManualClock) -> dict[str, Any]:
    return {
        "id": name,
        "tenant_id": "acme",
        "workload": workload,
        "name": f"{name}@acme.example",
        "kind": "user",
        "licensed": True,
        "policy_id": policy,
        "newest_generation": 1,
        "version": 1,
        "created_at": clock.now(),
    }


def _container_key(stored: WrappedContainerKey, clock: ManualClock) -> dict[str, Any]:
    return {
        "container_id": stored.ref.container_id,
        "generation": stored.ref.generation,
        "policy_id": stored.policy_id,
        "policy_key_generation": stored.policy_key_generation,
        "wrapped": stored.wrapped,
        "commitment": stored.commitment,
        "item_count": 0,
        "encrypted_count": 0,
        "created_at": clock.now(),
    }


@pytest.fixture
async def custody(store: Store, clock: ManualClock) -> Custody:
    """Return a custodian with one tenant and no policy."""
    async with store.begin(CAUSE) as unit:
        await unit.execute(insert(tenants).values(id="acme", name="acme", trial=False, created_at=clock.now()))
    return Custody(store, clock, MemoryVault(clock), MemoryVault(clock))
