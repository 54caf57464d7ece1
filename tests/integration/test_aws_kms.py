"""AWS KMS as moto answers, with what moto leaves out: roles, states of keys, and the provider's availability keys."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from schemas.identifiers import AvailabilityMode, Slot
from tests.servers.kms import ACCOUNT, Kms
from twinlock.clock import ManualClock
from twinlock.custody.audit.log import AuditLog
from twinlock.custody.custodian import LocalCustodian
from twinlock.custody.port import USER, Asker, PolicyKeyOrder
from twinlock.custody.settings import CustodySettings
from twinlock.keys.context import PolicyKeyContext
from twinlock.keys.ports import Corrupt, Denied, DestroyingVault, Misconfigured, Unavailable, VaultFailure
from twinlock.store.engine import open_engine
from twinlock.store.unit import Cause, Store
from twinlock.vaults.availability import AvailabilityVaults
from twinlock.vaults.aws.accounts import Account, Attempt
from twinlock.vaults.aws.availability import KmsAvailability
from twinlock.vaults.aws.reasons import Reason, VaultFault
from twinlock.vaults.aws.settings import AwsAccount, AwsSettings
from twinlock.vaults.aws.vault import KmsVault
from twinlock.vaults.directory import VaultDirectory
from twinlock.vaults.software.memory import MemoryVault

pytestmark = pytest.mark.servers

REGION, THEIRS = "eu-central-1", "111122223333"
PAYLOAD, CONTEXT = bytes(range(64)), b"a policy key's place"


@dataclass
class Bench:
    """Hold a server, and what it takes to reach its keys."""

    server: Kms
    folder: Path
    clock: ManualClock
    stack: AsyncExitStack

    def open(self, kind: type[KmsVault] = KmsVault) -> Any:
        """Open a vault on two accounts: our own, and another by a role there."""
        (self.folder / "us").write_text("[default]\naws_access_key_id = us\naws_secret_access_key = our-secret\n")
        ours = AwsAccount(endpoint=self.server.endpoint)
        role = f"arn:aws:iam::{THEIRS}:role/twinlock"
        theirs = replace(ours, role_arn=role, external_id="contoso", sts_endpoint=self.server.endpoint)
        accounts = {ACCOUNT: ours, f"{THEIRS}/{REGION}": theirs}
        settings = AwsSettings(deadline=60.0, allow_http=True, credentials_file=Path("us"), accounts=accounts)
        vault = kind(settings, self.folder, self.clock)
        self.stack.push_async_callback(vault.close)
        return vault

    def make(self, **options: Any) -> str:
        """Make a key in our own account and return its ARN."""
        return str(self.api("CreateKey", **options)["KeyMetadata"]["Arn"])

    def api(self, operation: str, **parameters: Any) -> Any:
        """Call KMS as the owner of our own account."""
        return self.server.api(REGION, operation, **parameters)


@pytest.fixture
async def bench(kms: Kms, tmp_path: Path, clock: ManualClock) -> AsyncIterator[Bench]:
    """Bring a server."""
    async with AsyncExitStack() as stack:
        yield Bench(kms, tmp_path, clock, stack)


async def verdict(call: Coroutine[Any, Any, object]) -> tuple[type[VaultFailure], str, bool]:
    """Return what the failure of a call is judged by."""
    with pytest.raises(VaultFailure) as caught:
        await call
    return type(caught.value), caught.value.raw.partition(" ")[0], caught.value.exact


async def test_role_in_their_account(bench: Bench) -> None:
    """A key in the account of a tenant is reached by a role there, and by nobody else's."""
    signer = bench.server.signer(THEIRS)
    uri = bench.server.api(REGION, "CreateKey", signer=signer)["KeyMetadata"]["Arn"]
    vault = bench.open()
    wrapped = await vault.wrap(uri, PAYLOAD, CONTEXT)

    assert f":{THEIRS}:key/" in uri
    assert PAYLOAD == await vault.unwrap(wrapped, CONTEXT)


@pytest.mark.parametrize("options", [{"MultiRegion": True}, {}])
async def test_round_trip(bench: Bench, options: dict[str, Any]) -> None:
    """A key of one region and one of several work alike; another context does not open what they wrapped."""
    uri, vault = bench.make(**options), bench.open()
    wrapped = await vault.wrap(uri, PAYLOAD, CONTEXT)

    assert bool(options) == (":key/mrk-" in uri)
    assert PAYLOAD == await vault.unwrap(wrapped, CONTEXT)
    assert (Corrupt, "decrypt-failed", False) == await verdict(vault.unwrap(wrapped, b"elsewhere"))


async def test_disabled(bench: Bench) -> None:
    """A disabled key denies use, exactly, is still described, and works again once enabled."""
    uri, vault = bench.make(), bench.open()
    wrapped = await vault.wrap(uri, PAYLOAD, CONTEXT)
    bench.api("DisableKey", KeyId=uri.rpartition("/")[2])

    assert (Denied, "key-disabled", True) == await verdict(vault.unwrap(wrapped, CONTEXT))
    assert (Denied, "key-disabled", True) == await verdict(vault.wrap(uri, PAYLOAD, CONTEXT))
    assert not (await vault.describe(uri)).enabled
    bench.api("EnableKey", KeyId=uri.rpartition("/")[2])
    assert PAYLOAD == await vault.unwrap(wrapped, CONTEXT)


async def test_rotation(bench: Bench) -> None:
    """A rotation is nobody's business: the key stays the one that it was, and opens all that it ever wrapped."""
    uri, vault = bench.make(), bench.open()
    wrapped, before = await vault.wrap(uri, PAYLOAD, CONTEXT), await vault.describe(uri)
    bench.api("RotateKeyOnDemand", KeyId=uri.rpartition("/")[2])

    assert before == await vault.describe(uri)
    assert PAYLOAD == await vault.unwrap(wrapped, CONTEXT)
    assert (Denied, "version-gone", True) == await verdict(vault.unwrap(replace(wrapped, version="2"), CONTEXT))


def alias() -> str:
    """Name an availability key that nobody has made yet."""
    return f"arn:aws:kms:{REGION}:{ACCOUNT}:alias/availability-{uuid4().hex}"


async def test_destroy(bench: Bench) -> None:
    """A destroyed availability key is gone in a week, denies everything until then, and its date does not move."""
    uri = alias()
    vault: DestroyingVault = bench.open(KmsAvailability)
    await vault.create(uri)
    wrapped = await vault.wrap(uri, PAYLOAD, CONTEXT)
    first = await vault.destroy(uri)
    another: DestroyingVault = bench.open(KmsAvailability)

    assert first == await another.destroy(uri)
    assert first.final_at is not None
    assert timedelta(days=6) < first.final_at - datetime.now(UTC) < timedelta(days=8)
    for call in (another.unwrap(wrapped, CONTEXT), another.describe(uri), another.create(uri)):
        assert (Denied, "key-pending-deletion", True) == await verdict(call)


async def test_created_twice_at_once(bench: Bench) -> None:
    """Of two processes that make one key at once both have the same in the end, and the other's is deleted."""
    uri = alias()
    vaults = [bench.open(KmsAvailability) for _ in range(2)]
    async with asyncio.TaskGroup() as group:
        made = [group.create_task(vault.create(uri)) for vault in vaults]
    one, other = (each.result() for each in made)
    keys = [bench.api("DescribeKey", KeyId=each["KeyArn"])["KeyMetadata"] for each in bench.api("ListKeys")["Keys"]]

    assert one == other
    assert 1 == [key["KeyState"] for key in keys if key["Description"].endswith(uri)].count("Enabled")


async def test_answer_is_lost(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key whose alias was made, though KMS answered with a fault, is there for the next try and not deleted."""
    uri, vault, ask = alias(), bench.open(KmsAvailability), Account.ask
    lost = iter([True])

    async def loses(self: Account, attempt: Attempt, operation: str, **asked: Any) -> Any:
        found = await ask(self, attempt, operation, **asked)
        if operation == "create_alias" and next(lost, False):
            raise VaultFault(Reason.SERVER_FAULT)
        return found

    monkeypatch.setattr(Account, "ask", loses)
    assert (Unavailable, "server-fault", False) == await verdict(vault.create(uri))
    await vault.create(uri)

    assert PAYLOAD == await vault.unwrap(await vault.wrap(uri, PAYLOAD, CONTEXT), CONTEXT)


async def test_alias_of_another_key(bench: Bench) -> None:
    """A key that is not ours under its alias is neither used nor destroyed."""
    uri, key = alias(), bench.make()
    bench.api("CreateAlias", AliasName=uri.rpartition(":")[2], TargetKeyId=key)
    vault = bench.open(KmsAvailability)

    for call in (vault.create(uri), vault.wrap(uri, PAYLOAD, CONTEXT), vault.destroy(uri)):
        assert (Misconfigured, "alias-taken", False) == await verdict(call)
    assert "Enabled" == bench.api("DescribeKey", KeyId=key)["KeyMetadata"]["KeyState"]


async def test_made_elsewhere(bench: Bench) -> None:
    """A key is used by whoever finds its alias, and bytes of one that was there before are denied."""
    uri = alias()
    await bench.open(KmsAvailability).create(uri)
    vault = bench.open(KmsAvailability)
    wrapped = await vault.wrap(uri, PAYLOAD, CONTEXT)
    bench.api("DeleteAlias", AliasName=uri.rpartition(":")[2])
    gone = await verdict(vault.unwrap(wrapped, CONTEXT))
    again = await vault.create(uri)

    assert (Denied, "key-gone", False) == gone
    assert not again.is_key(wrapped.identity)
    assert (Denied, "key-replaced", True) == await verdict(vault.unwrap(wrapped, CONTEXT))
    assert (await vault.destroy(alias())).is_final


async def test_pair_of_two_vendors(bench: Bench, sqlite_template: Path) -> None:
    """A policy's root keys may be of two vendors, and its availability key at AWS: each opens the same policy key."""
    shutil.copyfile(sqlite_template, bench.folder / "twinlock.db")
    store = Store(open_engine(f"sqlite+aiosqlite:///{bench.folder}/twinlock.db"), bench.clock, "urn:twinlock:test")
    bench.stack.push_async_callback(store.close)
    local, kms, ours = MemoryVault(bench.clock), bench.open(), bench.open(KmsAvailability)
    await local.create_root_key("memory://east/root")
    roots = (bench.make(), "memory://east/root")
    custodian = LocalCustodian(
        store,
        VaultDirectory({"memory": local, "arn": kms}),
        AvailabilityVaults({"arn": ours}),
        AuditLog(store, "custodian", bytes(32), bench.clock),
        bench.clock,
        settings=CustodySettings(availability_vault=f"arn:aws:kms:{REGION}:{ACCOUNT}", vault_deadline=60.0),
    )
    order = PolicyKeyOrder("acme", uuid4().hex, 1, AvailabilityMode.STANDARD, roots)
    made = await custodian.make_policy_key(order, Asker(USER, Cause("test"), 240.0))
    copies = dict(made.copies)
    opened = [
        await vault.unwrap(copies[slot], PolicyKeyContext("acme", order.policy_id, 1, slot.value).encode())
        for slot, vault in ((Slot.A, kms), (Slot.B, local), (Slot.AVAILABILITY, ours))
    ]

    assert f"alias/availability-{order.policy_id}" == copies[Slot.AVAILABILITY].uri.rpartition(":")[2]
    assert 1 == len({payload[:32] for payload in opened})
