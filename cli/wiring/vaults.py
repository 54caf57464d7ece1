"""The vaults of an installation: the embedded ones, and those of the vendors that its settings name."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from cli.home import VAULTS
from cli.settings import Settings
from twinlock.errors import TwinlockError
from twinlock.keys.ports import Clock
from twinlock.vaults.directory import VaultDirectory
from twinlock.vaults.local import SCHEME, LocalVault
from twinlock.vaults.openbao.uris import HTTP, HTTPS

if TYPE_CHECKING:
    from twinlock.vaults.openbao.vault import OpenBaoVault

_NOT_SET_UP = "name its server and our login in openbao.servers"


@asynccontextmanager
async def open_vaults(settings: Settings, clock: Clock) -> AsyncIterator[tuple[VaultDirectory, LocalVault]]:
    """Open every vault, and the embedded one that has the availability keys; leaving the block closes them."""
    local = LocalVault(settings.home / VAULTS, clock)
    if not settings.openbao.servers:
        yield VaultDirectory({SCHEME: local}, dict.fromkeys((HTTPS, HTTP), _NOT_SET_UP)), local
        return
    vault = _openbao()(settings.openbao, settings.secrets_folder, clock)
    try:
        yield VaultDirectory({SCHEME: local, HTTPS: vault, HTTP: vault}), local
    finally:
        await vault.close()


def _openbao() -> "type[OpenBaoVault]":
    """Load the adapter where it is used: its HTTP library takes its time, and may not be installed."""
    try:
        from twinlock.vaults.openbao.vault import OpenBaoVault
    except ModuleNotFoundError as missing:
        raise TwinlockError(
            f"openbao.servers needs {missing.name}, which is not installed",
            hint="install it with: pip install 'twinlock[openbao]'",
        ) from None
    return OpenBaoVault
