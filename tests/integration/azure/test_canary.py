"""Our own key at Azure tells whose act a refusal is, through the vendor's library and as the settings wire it."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from cli.settings import Settings
from cli.wiring.vaults import open_vaults
from tests.integration.azure.conftest import CONTEXT, LOGIN, PAYLOAD, Bench, refused, verdict
from tests.servers.azure_vault import DIRECTORY, KeyVault, entra_says, key_vault
from twinlock.clock import ManualClock
from twinlock.keys.ports import Denied, Misconfigured, Vault, VaultFailure, WrappedKey
from twinlock.vaults.azure.settings import AzureHost, AzureSettings

OPENS, NEITHER = "while our own key there opens", "and neither does our own key there open"
CONSENT_GONE = entra_says(400, 700016, "Application was not found in the directory.")


@dataclass
class Pair:
    """Hold the customer's vault and our own, with a key in each."""

    theirs: KeyVault
    ours: KeyVault
    settings: Settings
    clock: ManualClock

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Vault]:
        """Open the vaults, as every process does; it has no token yet, and has not asked our own key."""
        async with open_vaults(self.settings, self.clock) as (vaults, _):
            yield vaults.of(self.theirs.uri("root"))

    async def wrapped(self) -> WrappedKey:
        """Wrap under the customer's key, while all is well."""
        async with self.opened() as vault:
            return await vault.wrap(self.theirs.uri("root"), PAYLOAD, CONTEXT)

    async def refusal(self, wrapped: WrappedKey) -> VaultFailure:
        """Return what a process that has just started says of the customer's key."""
        async with self.opened() as vault:
            found = await refused(vault.unwrap(wrapped, CONTEXT))
        assert self.theirs.uri("root") == found.uri
        assert not found.counts  # law 5: no refusal is evidence of an outage
        return found


@pytest.fixture
async def pair(
    bench: Bench, azure_keys: list[rsa.RSAPrivateKey], tmp_path: Path, clock: ManualClock
) -> AsyncIterator[Pair]:
    """Bring a vault of our own beside the customer's; both are in one directory."""
    keys = cycle(azure_keys)
    async with AsyncExitStack() as stack:
        ours = await stack.enter_async_context(key_vault(bench.certificates, lambda: next(keys)))
        ours.tokens = bench.server.tokens
        for server in (bench.server, ours):
            server.make("root")
        hosts = {each.host: AzureHost(bench.certificates.authority, each.host) for each in (bench.server, ours)}
        azure = AzureSettings(deadline=60.0, directories={DIRECTORY: LOGIN}, vaults=hosts, canary=ours.uri("root"))
        yield Pair(bench.server, ours, Settings(home=tmp_path, secrets=tmp_path, azure=azure), clock)


async def test_their_vault_alone(pair: Pair) -> None:
    """Where only the customer's vault takes our right away, the customer has acted."""
    wrapped = await pair.wrapped()
    pair.theirs.allowed.discard("unwrapKey")
    found = await pair.refusal(wrapped)

    assert (Denied, "permission-denied") == verdict(found)[:2]
    assert OPENS in found.detail
    assert ["token", "get", "wrapkey", "unwrapkey"] == pair.ours.asked


@pytest.mark.parametrize("how", ["no-right", "no-application"])
async def test_every_vault(pair: Pair, how: str) -> None:
    """Where our application may nothing anywhere, or is gone, the fault is ours, and no customer's denial."""
    wrapped = await pair.wrapped()
    for server in (pair.theirs, pair.ours):
        if how == "no-right":
            server.allowed.discard("unwrapKey")
        else:
            server.says["token"] = CONSENT_GONE
    found = await pair.refusal(wrapped)

    assert Misconfigured is type(found)
    assert NEITHER in found.detail


async def test_silent(pair: Pair) -> None:
    """Where our own key says nothing, the refusal stands as it is: silence speaks for nobody."""
    wrapped = await pair.wrapped()
    pair.theirs.allowed.discard("unwrapKey")
    pair.ours.silent = {"unwrapkey"}
    found = await pair.refusal(wrapped)

    assert (Denied, "permission-denied") == verdict(found)[:2]
    assert "our own key" not in found.detail
