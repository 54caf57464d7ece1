"""A vault of AWS KMS whose every answer a test chooses."""

from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.servers.aws_wire import ACCOUNT, ROLE, Wire
from twinlock.clock import ManualClock
from twinlock.keys.ports import VaultFailure
from twinlock.vaults.aws.settings import AwsAccount, AwsSettings
from twinlock.vaults.aws.vault import KmsVault

OWN = "[default]\naws_access_key_id = AKIAUS\naws_secret_access_key = a-secret-of-ours\n"
EXTERNAL_ID = "contoso-external-id"
CONTEXT = b"a policy key's place"


@asynccontextmanager
async def opened(
    endpoint: str,
    folder: Path,
    clock: ManualClock,
    kind: type[KmsVault] = KmsVault,
    *,
    role: bool = False,
    deadline: float = 20.0,
    **settings: Any,
) -> AsyncIterator[Any]:
    """Open a vault on an endpoint, as ourselves or in a role."""
    (folder / "us").write_text(OWN)
    named = {"role_arn": ROLE, "external_id": EXTERNAL_ID} if role else {}
    account = AwsAccount(endpoint=endpoint, sts_endpoint=endpoint, **named)
    given = {"allow_http": True, "credentials_file": Path("us"), "accounts": {ACCOUNT: account}, **settings}
    vault = kind(AwsSettings(deadline=deadline, **given), folder, clock)
    try:
        yield vault
    finally:
        await vault.close()


async def refused(call: Coroutine[Any, Any, object]) -> VaultFailure:
    """Return the failure with which a call ends."""
    with pytest.raises(VaultFailure) as caught:
        await call
    return caught.value


def verdict(failure: VaultFailure) -> tuple[type[VaultFailure], str, bool, bool]:
    """Return what a failure is judged by."""
    return type(failure), failure.raw.partition(" ")[0], failure.exact, failure.counts


@asynccontextmanager
async def on_wire(
    wire: Wire, folder: Path, clock: ManualClock, kind: type[KmsVault] = KmsVault, **options: Any
) -> AsyncIterator[Any]:
    """Open a vault on a stand-in."""
    async with opened(wire.endpoint, folder, clock, kind, **options) as vault:
        yield vault
