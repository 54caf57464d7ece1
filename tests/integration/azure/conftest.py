"""A stand-in for one vault of Azure, and an adapter that is logged in to it."""

from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.servers.azure_vault import CLIENT, DIRECTORY, SECRET, KeyVault, key_vault
from tests.servers.certificates import Certificates
from twinlock.keys.ports import VaultFailure, WrappedKey
from twinlock.vaults.azure.availability import AzureAvailabilityVault
from twinlock.vaults.azure.settings import AzureDirectory, AzureHost, AzureSettings

PAYLOAD, CONTEXT = bytes(range(64)), b"a policy key's place"
LOGIN = AzureDirectory(CLIENT, Path("secret"))


@dataclass
class Bench:
    """Hold a server, and what it takes to reach its keys."""

    server: KeyVault
    certificates: Certificates
    folder: Path
    stack: AsyncExitStack

    @property
    def uri(self) -> str:
        """Return the key's URI."""
        return self.server.uri("root")

    def open(self, login: AzureDirectory = LOGIN, **settings: Any) -> AzureAvailabilityVault:
        """Open a vault, by default with our application's secret."""
        host = AzureHost(self.certificates.authority, self.server.host)
        # Long, so that a busy machine fails no test that promises nothing of time.
        given = {
            "deadline": 60.0,
            "directories": {DIRECTORY: login},
            "vaults": {self.server.host: host},
            **settings,
        }
        vault = AzureAvailabilityVault(AzureSettings(**given), self.folder)
        self.stack.push_async_callback(vault.close)
        return vault

    async def wrap(self, vault: AzureAvailabilityVault) -> WrappedKey:
        """Make the key and wrap under it; what was asked until then is forgotten."""
        self.server.make("root")
        wrapped = await vault.wrap(self.uri, PAYLOAD, CONTEXT)
        self.server.asked.clear()
        return wrapped


async def refused(call: Coroutine[Any, Any, object]) -> VaultFailure:
    """Return the failure with which a call ends."""
    with pytest.raises(VaultFailure) as caught:
        await call
    return caught.value


def verdict(failure: VaultFailure) -> tuple[type[VaultFailure], str, bool, bool]:
    """Return what a failure is judged by."""
    return type(failure), failure.raw.partition(" ")[0], failure.exact, failure.counts


@pytest.fixture(scope="session")
def azure_keys() -> list[rsa.RSAPrivateKey]:
    """Make a few keys once."""
    return [rsa.generate_private_key(65537, 2048) for _ in range(3)]


@pytest.fixture
async def bench(azure_keys: list[rsa.RSAPrivateKey], tmp_path: Path) -> AsyncIterator[Bench]:
    """Bring a fresh vault."""
    certificates, keys = Certificates(tmp_path), cycle(azure_keys)
    (tmp_path / "secret").write_text(SECRET + "\n")
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(key_vault(certificates, lambda: next(keys)))
        yield Bench(server, certificates, tmp_path, stack)
