"""Policies with keys in vaults of Azure, on a real custodian."""

import shutil
from pathlib import Path
from uuid import uuid4

from schemas.identifiers import AvailabilityMode, Slot
from tests.integration.azure.conftest import Bench
from tests.servers.azure_vault import OWN
from twinlock.clock import ManualClock
from twinlock.custody.audit.log import AuditLog
from twinlock.custody.custodian import LocalCustodian
from twinlock.custody.port import USER, Asker, PolicyKeyOrder
from twinlock.custody.settings import CustodySettings
from twinlock.keys.context import PolicyKeyContext
from twinlock.store.engine import open_engine
from twinlock.store.unit import Cause, Store
from twinlock.vaults.availability import AvailabilityVaults
from twinlock.vaults.directory import VaultDirectory
from twinlock.vaults.software.memory import MemoryVault


async def test_pair_of_two_vendors(bench: Bench, clock: ManualClock, sqlite_template: Path) -> None:
    """A policy's root keys may be of two vendors, and its availability key at Azure: each opens the same policy key."""
    shutil.copyfile(sqlite_template, bench.folder / "twinlock.db")
    store = Store(open_engine(f"sqlite+aiosqlite:///{bench.folder}/twinlock.db"), clock, "urn:twinlock:test")
    bench.stack.push_async_callback(store.close)
    local, azure = MemoryVault(clock), bench.open()
    await local.create_root_key("memory://east/root")
    bench.server.allowed |= OWN
    bench.server.make("root")
    custodian = LocalCustodian(
        store,
        VaultDirectory({"memory": local, "https": azure}),
        AvailabilityVaults({"https": azure}),
        AuditLog(store, "custodian", bytes(32), clock),
        clock,
        settings=CustodySettings(availability_vault=f"https://{bench.server.host}", vault_deadline=60.0),
    )
    order = PolicyKeyOrder("acme", str(uuid4()), 1, AvailabilityMode.STANDARD, (bench.uri, "memory://east/root"))
    made = await custodian.make_policy_key(order, Asker(USER, Cause("test"), 240.0))
    copies = dict(made.copies)
    opened = [
        await vault.unwrap(copies[slot], PolicyKeyContext("acme", order.policy_id, 1, slot.value).encode())
        for slot, vault in ((Slot.A, azure), (Slot.B, local), (Slot.AVAILABILITY, azure))
    ]

    assert {"root", f"availability-{order.policy_id}"} == set(bench.server.keys)
    assert 1 == len({payload[:32] for payload in opened})
