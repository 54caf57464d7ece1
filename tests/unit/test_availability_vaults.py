"""Every availability key is asked for in the vault that its own URI names."""

from collections.abc import Awaitable, Callable

import pytest

from twinlock.clock import ManualClock
from twinlock.keys.ports import DestroyingVault, Misconfigured, WrappedKey
from twinlock.vaults.availability import AvailabilityVaults
from twinlock.vaults.software.memory import MemoryVault

PAYLOAD, CONTEXT = bytes(range(64)), b"a policy key's place"


async def test_by_scheme(clock: ManualClock) -> None:
    """A key made in one vendor's vault is found, used and destroyed there, whichever the settings name now."""
    before, now = MemoryVault(clock), MemoryVault(clock)
    vaults: DestroyingVault = AvailabilityVaults({"local": before, "bao": now})
    made = await vaults.create("local://provider/availability-1")
    wrapped = await vaults.wrap(made.uri, PAYLOAD, CONTEXT)
    await vaults.create("bao://provider/availability-2")

    assert made == await vaults.describe(made.uri) == await before.describe(made.uri)
    assert PAYLOAD == await vaults.unwrap(wrapped, CONTEXT)
    assert (await vaults.destroy(made.uri)).is_final
    assert ("create", "bao://provider/availability-2") in now.calls
    assert not [uri for _, uri in now.calls if uri == made.uri]


@pytest.mark.parametrize("uri", ["bao://provider/x", "x"])
async def test_nowhere(uri: str, clock: ManualClock) -> None:
    """A key in a vault that is not set up, or can keep none, is our own mistake."""
    vaults = AvailabilityVaults({"local": MemoryVault(clock)})
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: vaults.create(uri),
        lambda: vaults.destroy(uri),
        lambda: vaults.describe(uri),
        lambda: vaults.unwrap(WrappedKey(uri, "1", "1", b""), CONTEXT),
    ]
    for call in calls:
        with pytest.raises(Misconfigured):
            await call()
