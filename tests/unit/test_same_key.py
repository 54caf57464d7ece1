"""A key is known again after a rotation, also where its vendor names no more than one version at a time."""

import asyncio
from dataclasses import replace

import pytest

from twinlock.clock import ManualClock
from twinlock.custody.calls import VaultCalls
from twinlock.custody.guards import Guards
from twinlock.custody.operations import Account
from twinlock.custody.settings import GuardSettings
from twinlock.keys.ports import KeyDescription, WrappedKey
from twinlock.vaults.software.memory import MemoryVault

URI = "memory://contoso/root"


class OneByOne(MemoryVault):
    """Name the versions of a key apart, as Azure does, and say nothing of the others."""

    asked = 0

    async def describe(self, uri: str, version: str | None = None) -> KeyDescription:
        """Describe one version."""
        self.asked += 1
        found = await super().describe(uri, version)
        return replace(found, identity=f"{found.identity}/{found.version}", identities=())


@pytest.fixture
async def vault(clock: ManualClock) -> OneByOne:
    """Bring a vault with a key."""
    vault = OneByOne(clock)
    await vault.create_root_key(URI)
    return vault


def calls(vault: OneByOne, clock: ManualClock) -> VaultCalls:
    """Return calls to the key."""
    until = asyncio.get_running_loop().time() + 60
    return VaultCalls(vault, URI, Guards(clock, GuardSettings()), Account(), 60.0, until)


async def pinned(vault: OneByOne) -> WrappedKey:
    """Return what a policy has of the key."""
    found = await vault.describe(URI)
    return WrappedKey(URI, found.version, found.identity, b"")


async def test_rotated(vault: OneByOne, clock: ManualClock) -> None:
    """A key that still has the pinned version is the same; the version itself is known at once (law 1)."""
    old = await pinned(vault)
    await vault.rotate(URI)
    newest = await vault.describe(URI)

    assert not newest.is_key(old.identity)
    assert await calls(vault, clock).is_key(newest, old)
    before = vault.asked
    assert await calls(vault, clock).is_key(newest, await pinned(vault))
    assert before + 1 == vault.asked


@pytest.mark.parametrize("rotations", [0, 1])
async def test_made_again(vault: OneByOne, clock: ManualClock, rotations: int) -> None:
    """A key that was made again is another, whatever its versions are called (law 1)."""
    old = await pinned(vault)
    await vault.delete(URI)
    await vault.create_root_key(URI)
    for _ in range(rotations):
        await vault.rotate(URI)

    assert not await calls(vault, clock).is_key(await vault.describe(URI), old)


async def test_version_gone(vault: OneByOne, clock: ManualClock) -> None:
    """A key that has lost the pinned version is not taken for the same (law 1)."""
    old = replace(await pinned(vault), version="7")

    assert not await calls(vault, clock).is_key(replace(await vault.describe(URI), identity="another"), old)
