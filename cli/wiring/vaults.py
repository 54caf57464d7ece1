"""The vaults of an installation: the embedded ones, and those of the vendors that its settings name."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from cli.home import VAULTS
from cli.settings import Settings
from cli.wiring.vendors import VENDORS
from twinlock.keys.ports import Clock, DestroyingVault
from twinlock.vaults.availability import AvailabilityVaults
from twinlock.vaults.canary import Canary, WithCanary
from twinlock.vaults.directory import Adapter, VaultDirectory
from twinlock.vaults.software.local import SCHEME, LocalVault


@asynccontextmanager
async def open_vaults(settings: Settings, clock: Clock) -> AsyncIterator[tuple[VaultDirectory, DestroyingVault]]:
    """Open every vault, and apart from them those that may keep availability keys; leaving the block closes them."""
    local = LocalVault(settings.home / VAULTS, clock)
    adapters: dict[str, Adapter] = {SCHEME: local}
    keeping: dict[str, DestroyingVault] = {SCHEME: local}
    absent: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        for vendor in VENDORS:
            if not vendor.is_set(settings):
                absent |= dict.fromkeys(vendor.schemes, vendor.hint)
                continue
            vault = vendor.load(settings, clock)
            stack.push_async_callback(vault.close)
            adapters |= dict.fromkeys(vendor.schemes, _watched(vault, vendor.canary(settings), clock))
            if (availability := vendor.availability(settings, clock, vault)) is not None:
                stack.push_async_callback(availability.close)  # may be the same: closing twice is no error
                keeping |= dict.fromkeys(vendor.schemes, availability)
        yield VaultDirectory(adapters, absent), AvailabilityVaults(keeping)


def _watched(vault: Adapter, canary: str | None, clock: Clock) -> Adapter:
    return WithCanary(vault, Canary(vault, canary, clock)) if canary is not None else vault
