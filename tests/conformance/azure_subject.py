"""Azure as a subject of the conformance suite: two stand-ins, each behind a proxy that can cut it off."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from tests.servers.azure_vault import CLIENT, DIRECTORY, OWN, SECRET, Key, KeyVault, key_vault
from tests.servers.certificates import Certificates
from tests.servers.proxy import Proxy, proxied
from twinlock.keys.ports import KeyDescription
from twinlock.vaults.administration import KeyState, KeyStatus, WrongKeyState
from twinlock.vaults.azure.settings import AzureDirectory, AzureHost, AzureSettings
from twinlock.vaults.azure.vault import AzureVault

FORM = "https://{}/keys/{}"


def version(number: int) -> str:
    """Return the name that a version has here; Azure's own names are random."""
    return f"{number:032x}"


class AzureOwner:
    """Look after the keys of two vaults as their owner would, past the proxies and past the wire."""

    def __init__(self, kind: type[AzureVault]) -> None:
        self.vault: AzureVault
        self._kind = kind
        self._places: dict[str, tuple[KeyVault, Proxy]] = {}

    async def open(self, stack: AsyncExitStack, folder: Path, generate: Callable[[], RSAPrivateKey]) -> tuple[str, str]:
        """Open the vault under test on both; return their hosts."""
        certificates, hosts = Certificates(folder), {}
        (folder / "secret").write_text(SECRET)
        for _ in range(2):
            server = await stack.enter_async_context(key_vault(certificates, generate))
            server.version, server.level = _numbered, "Recoverable+Purgeable"
            server.allowed |= OWN
            proxy = await stack.enter_async_context(proxied(server.port))
            place = f"127.0.0.1:{proxy.port}"
            self._places[place] = server, proxy
            hosts[place] = AzureHost(certificates.authority, place)
        login = AzureDirectory(CLIENT, Path("secret"))
        # Long, so that a busy machine fails no test that promises nothing of time.
        settings = AzureSettings(deadline=60.0, directories={DIRECTORY: login}, vaults=hosts)
        self.vault = self._kind(settings, folder)
        stack.push_async_callback(self.vault.close)
        first, second = self._places
        return first, second

    async def create(self, uri: str) -> KeyDescription:
        """Make a root key; one that is deleted makes way for good."""
        server, key = self._key(uri)
        server.deleted.pop(key, None)
        server.make(key)
        return await self.vault.describe(uri)

    async def rotate(self, uri: str) -> KeyState:
        """Add a version."""
        server, key = self._key(uri)
        server.rotate(key)
        return await self.state(uri)

    async def delete(self, uri: str) -> KeyState:
        """Delete a key softly."""
        server, key = self._key(uri)
        server.soft_delete(key)
        return await self.state(uri)

    async def restore(self, uri: str) -> KeyState:
        """Restore a deleted key."""
        server, key = self._key(uri)
        if key not in server.deleted:
            raise WrongKeyState(f"{uri} is not deleted")
        server.recover(key)
        return await self.state(uri)

    async def state(self, uri: str) -> KeyState:
        """Say where a key is in its life."""
        server, key = self._key(uri)
        if key not in server.keys and key not in server.deleted:
            return KeyState(uri, "", KeyStatus.DESTROYED, ())
        deleted = key in server.deleted
        versions = tuple((server.deleted if deleted else server.keys)[key].versions)
        return KeyState(uri, versions[-1], KeyStatus.DELETED if deleted else KeyStatus.ENABLED, versions)

    async def set_outage(self, place: str, on: bool) -> None:
        """Cut a vault off, or let it answer again."""
        proxy = self._places[place][1]
        proxy.refuses = on
        proxy.cut()

    async def outage(self, place: str) -> bool:
        """Say whether a vault is cut off."""
        return self._places[place][1].refuses

    def _key(self, uri: str) -> tuple[KeyVault, str]:
        place, _, key = uri.removeprefix("https://").partition("/keys/")
        return self._places[place][0], key


def _numbered(key: Key | None) -> str:
    return version(1 if key is None else len(key.versions) + 1)
