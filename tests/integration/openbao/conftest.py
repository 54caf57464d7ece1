"""One mount on a real server, and a vault that is logged in to it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.servers.openbao import Mount, OpenBao
from tests.servers.proxy import Proxy, proxied
from twinlock.clock import ManualClock
from twinlock.keys.ports import VaultFailure, WrappedKey
from twinlock.vaults.openbao.settings import OpenBaoServer, OpenBaoSettings
from twinlock.vaults.openbao.vault import OpenBaoVault

PAYLOAD, CONTEXT = bytes(range(64)), b"a policy key's place"
KEY = "root"


@dataclass
class Bench:
    """Hold a mount, the proxy before its server, and what it takes to reach its keys."""

    mount: Mount
    proxy: Proxy
    folder: Path
    clock: ManualClock
    stack: AsyncExitStack

    @property
    def uri(self) -> str:
        """Return the key's URI, through the proxy."""
        return self.mount.uri(KEY, self.proxy.port)

    @property
    def token_file(self) -> Path:
        """Return the file that the vault takes its token from."""
        return self.folder / "token"

    def open(self, login: OpenBaoServer | None = None, **settings: Any) -> OpenBaoVault:
        """Open a vault, by default with a token that never ends."""
        login = login or self.token_login(self.mount.token())
        servers = {f"127.0.0.1:{self.proxy.port}": login}
        # Long, so that a busy machine fails no test that promises nothing of time.
        given = {"allow_http": True, "deadline": 60.0, "servers": servers, **settings}
        vault = OpenBaoVault(OpenBaoSettings(**given), self.folder, self.clock)
        self.stack.push_async_callback(vault.close)
        return vault

    def token_login(self, token: str) -> OpenBaoServer:
        """Return the login with a token."""
        self.token_file.write_text(token)
        return OpenBaoServer(token_file=self.token_file)

    def approle(self, **options: Any) -> OpenBaoServer:
        """Make an AppRole, and return the login with it."""
        role_id, secret = self.mount.approle(**options)
        (self.folder / "secret").write_text(secret)
        return OpenBaoServer(role_id=role_id, secret_id_file=Path("secret"), approle=self.mount.name)

    async def wrap(self, vault: OpenBaoVault, kind: str = "aes256-gcm96") -> WrappedKey:
        """Make the key and wrap under it."""
        self.mount.create(KEY, kind)
        return await vault.wrap(self.uri, PAYLOAD, CONTEXT)


async def refused(call: Coroutine[Any, Any, object]) -> VaultFailure:
    """Return the failure with which a call ends."""
    with pytest.raises(VaultFailure) as caught:
        await call
    return caught.value


@pytest.fixture
async def bench(openbao: OpenBao, tmp_path: Path, clock: ManualClock) -> AsyncIterator[Bench]:
    """Bring a fresh mount."""
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(proxied(openbao.port))
        yield Bench(openbao.mount(), proxy, tmp_path, clock, stack)


async def together(number: int, call: Callable[[], Awaitable[object]]) -> None:
    """Make the same call many times at once."""

    async def one() -> None:
        await call()

    async with asyncio.TaskGroup() as group:
        for _ in range(number):
            group.create_task(one())
