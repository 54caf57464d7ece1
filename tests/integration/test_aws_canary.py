"""Our own key at AWS tells whose act a refusal is, through KMS's own answers and as the settings wire it."""

import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from cli.settings import Settings
from cli.wiring.vaults import open_vaults
from tests.servers.kms import ACCOUNT, Kms
from twinlock.clock import ManualClock
from twinlock.keys.ports import Denied, Misconfigured, Vault, VaultFailure, WrappedKey
from twinlock.vaults.aws.settings import AwsAccount, AwsSettings
from twinlock.vaults.canary import KEPT_BAD, KEPT_GOOD

pytestmark = pytest.mark.servers

REGION, ELSEWHERE = "eu-central-1", "eu-west-1"
PAYLOAD, CONTEXT = bytes(range(64)), b"a policy key's place"
OPENS, NEITHER = "while our own key there opens", "and neither does our own key there open"

Open = Callable[[str], AbstractAsyncContextManager[Vault]]


class Owner:
    """Own keys, and let us use them or not."""

    def __init__(self, kms: Kms) -> None:
        self._kms = kms

    def make(self, region: str = REGION) -> str:
        """Make a key and return its ARN."""
        return str(self._kms.api(region, "CreateKey")["KeyMetadata"]["Arn"])

    def denies(self, uri: str, *actions: str) -> None:
        """Have a key's policy deny these actions, and allow all others."""
        allows = {"Effect": "Allow", "Principal": "*", "Action": ["kms:*"], "Resource": "*"}
        statements = [allows, *([{**allows, "Effect": "Deny", "Action": list(actions)}] if actions else [])]
        policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
        self._kms.api(REGION, "PutKeyPolicy", KeyId=uri, PolicyName="default", Policy=policy)


@pytest.fixture
def owner(kms: Kms) -> Owner:
    """Be whoever owns the keys."""
    return Owner(kms)


@pytest.fixture
def silence() -> Iterator[str]:
    """Listen, and never say a word."""
    with socket.create_server(("127.0.0.1", 0)) as listens:
        yield f"http://127.0.0.1:{listens.getsockname()[1]}"


@pytest.fixture
def open_watched(kms: Kms, silence: str, tmp_path: Path, clock: ManualClock) -> Open:
    """Return what opens the vault with a canary, as every process does."""
    (tmp_path / "us").write_text("[default]\naws_access_key_id = us\naws_secret_access_key = our-secret\n")
    accounts = {ACCOUNT: AwsAccount(endpoint=kms.endpoint), f"{ACCOUNT}/{ELSEWHERE}": AwsAccount(endpoint=silence)}

    @asynccontextmanager
    async def opened(canary: str) -> AsyncIterator[Vault]:
        aws = AwsSettings(deadline=60.0, allow_http=True, credentials_file=Path("us"), canary=canary, accounts=accounts)
        async with open_vaults(Settings(home=tmp_path, secrets=tmp_path, aws=aws), clock) as (vaults, _):
            yield vaults.of(canary)

    return opened


async def refusal(vault: Vault, wrapped: WrappedKey) -> VaultFailure:
    with pytest.raises(VaultFailure) as caught:
        await vault.unwrap(wrapped, CONTEXT)
    assert caught.value.raw.startswith("permission-denied 400 AccessDeniedException")
    assert not caught.value.counts  # law 5: no refusal is evidence of an outage
    return caught.value


async def test_their_key_alone(owner: Owner, open_watched: Open) -> None:
    """Where only the customer's key refuses us, the customer has acted; a key that opens again is nobody's."""
    theirs, ours = owner.make(), owner.make()
    async with open_watched(ours) as vault:
        wrapped = await vault.wrap(theirs, PAYLOAD, CONTEXT)
        owner.denies(theirs, "kms:Decrypt")
        found = await refusal(vault, wrapped)
        owner.denies(theirs)
        opened = await vault.unwrap(wrapped, CONTEXT)

    assert (Denied, theirs) == (type(found), found.uri)
    assert OPENS in found.detail
    assert PAYLOAD == opened


@pytest.mark.parametrize("known", [True, False], ids=["asked-before", "never-asked"])
async def test_every_key(owner: Owner, open_watched: Open, clock: ManualClock, known: bool) -> None:
    """Where our own key refuses us too the fault is ours, and no customer's denial; it may be one once ours opens."""
    theirs, ours = owner.make(), owner.make()
    async with open_watched(ours) as vault:
        wrapped = await vault.wrap(theirs, PAYLOAD, CONTEXT)
        owner.denies(theirs, "kms:Decrypt")
        if known:
            assert isinstance(await refusal(vault, wrapped), Denied)
            clock.advance(KEPT_GOOD + 1)
        owner.denies(ours, *(["kms:Decrypt"] if known else ["kms:Encrypt", "kms:Decrypt"]))
        found = await refusal(vault, wrapped)
        owner.denies(ours)
        clock.advance(KEPT_BAD + 1)
        after = await refusal(vault, wrapped)

    assert (Misconfigured, theirs) == (type(found), found.uri)
    assert NEITHER in found.detail
    assert isinstance(after, Denied)
    assert OPENS in after.detail


async def test_silent(owner: Owner, open_watched: Open) -> None:
    """Where our own key says nothing, the refusal stands as it is: silence speaks for nobody."""
    theirs, ours = owner.make(), owner.make(ELSEWHERE)
    async with open_watched(ours) as vault:
        wrapped = await vault.wrap(theirs, PAYLOAD, CONTEXT)
        owner.denies(theirs, "kms:Decrypt")
        found = await refusal(vault, wrapped)

    assert isinstance(found, Denied)
    assert "our own key" not in found.detail
