"""OpenBao as a subject of the conformance suite: two real servers, each behind a proxy that can cut it off."""

from contextlib import AsyncExitStack
from pathlib import Path

from tests.servers.openbao import Mount, OpenBao
from tests.servers.proxy import Proxy, proxied
from twinlock.keys.ports import Clock, KeyDescription
from twinlock.vaults.administration import KeyState, KeyStatus, WrongKeyState
from twinlock.vaults.openbao.availability import OpenBaoAvailabilityVault
from twinlock.vaults.openbao.settings import OpenBaoServer, OpenBaoSettings
from twinlock.vaults.openbao.vault import OpenBaoVault


class OpenBaoOwner:
    """Look after the keys of two servers as their owner would, through their own interface and past the proxies."""

    def __init__(self, kind: str, adapter: type[OpenBaoVault] = OpenBaoVault) -> None:
        self.vault: OpenBaoVault
        self._adapter = adapter
        self._kind = kind
        self._places: dict[str, tuple[Mount, Proxy]] = {}

    async def open(
        self, stack: AsyncExitStack, servers: tuple[OpenBao, OpenBao], folder: Path, clock: Clock
    ) -> tuple[str, str]:
        """Open the vault under test on both servers; return the names of the two."""
        logins = {}
        for number, server in enumerate(servers):
            proxy, mount = await stack.enter_async_context(proxied(server.port)), server.mount()
            place, token = f"127.0.0.1:{proxy.port}", folder / f"token-{number}"
            mount.allow(keeping=self._adapter is OpenBaoAvailabilityVault)
            token.write_text(mount.token())
            self._places[place], logins[place] = (mount, proxy), OpenBaoServer(token_file=token)
        self.vault = self._adapter(OpenBaoSettings(allow_http=True, servers=logins), folder, clock)
        stack.push_async_callback(self.vault.close)
        first, second = self._places
        return first, second

    def uri(self, place: str, key: str) -> str:
        """Return the URI of a key."""
        mount, proxy = self._places[place]
        return mount.uri(key, proxy.port)

    async def create(self, uri: str) -> KeyDescription:
        """Make a key; one that is deleted makes way for good."""
        mount, key = self._key(uri)
        if key in mount.names():
            mount.restore(key)
            mount.make_again(key, self._kind)
        else:
            mount.create(key, self._kind)
        return await self.vault.describe(uri)

    async def rotate(self, uri: str) -> KeyState:
        """Add a version."""
        mount, key = self._key(uri)
        mount.rotate(key)
        return await self.state(uri)

    async def delete(self, uri: str) -> KeyState:
        """Delete a key softly."""
        mount, key = self._key(uri)
        mount.soft_delete(key)
        return await self.state(uri)

    async def restore(self, uri: str) -> KeyState:
        """Restore a deleted key."""
        mount, key = self._key(uri)
        if key not in mount.names():
            raise WrongKeyState(f"{key} is gone")
        mount.restore(key)
        return await self.state(uri)

    async def state(self, uri: str) -> KeyState:
        """Say where a key is in its life."""
        mount, key = self._key(uri)
        if key not in mount.names():
            return KeyState(uri, "", KeyStatus.DESTROYED, ())
        found = mount.read(key)
        state = KeyStatus.DELETED if found["soft_deleted"] else KeyStatus.ENABLED
        return KeyState(uri, str(found["latest_version"]), state, tuple(found["keys"]))

    async def set_outage(self, place: str, on: bool) -> None:
        """Cut a server off, or let it answer again."""
        proxy = self._proxy(place)
        proxy.refuses = on
        proxy.cut()

    async def outage(self, place: str) -> bool:
        """Say whether a server is cut off."""
        return self._proxy(place).refuses

    def _proxy(self, place: str) -> Proxy:
        return self._places[place.partition("/")[0]][1]

    def _key(self, uri: str) -> tuple[Mount, str]:
        place, _, key = uri.removeprefix("bao+http://").partition("/")
        return self._places[place][0], key.rpartition("/")[2]
