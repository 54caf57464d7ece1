"""The memory vault does what its script says, counts what it was asked, and holds no call that was given up."""

import asyncio

import pytest

from twinlock.clock import ManualClock
from twinlock.keys.ports import (
    Corrupt,
    Denied,
    KeyDescription,
    Misconfigured,
    Outcome,
    Unavailable,
    Unclear,
    VaultFailure,
)
from twinlock.vaults.software.memory import MemoryVault

URI, OTHER = "local://contoso-1/root", "local://contoso-2/root"
KINDS = {
    Outcome.UNAVAILABLE: Unavailable,
    Outcome.DENIED: Denied,
    Outcome.UNCLEAR: Unclear,
    Outcome.MISCONFIGURED: Misconfigured,
    Outcome.CORRUPT: Corrupt,
}


@pytest.fixture
async def vault(clock: ManualClock) -> MemoryVault:
    """Bring a vault with one key in each of two vaults."""
    made = MemoryVault(clock)
    for uri in (URI, OTHER):
        await made.create_root_key(uri)
    return made


async def outcome(vault: MemoryVault, uri: str = URI) -> Outcome:
    """Describe a key and return what came of it."""
    try:
        await vault.describe(uri)
    except VaultFailure as failure:
        return failure.outcome
    return Outcome.OK


async def test_script(vault: MemoryVault) -> None:
    """Scripted answers are given once each, in their order, to their own key alone."""
    vault.script(URI, Outcome.DENIED, Outcome.OK, Outcome.UNAVAILABLE)
    answers = [await outcome(vault) for _ in range(4)]

    assert [Outcome.DENIED, Outcome.OK, Outcome.UNAVAILABLE, Outcome.OK] == answers
    assert Outcome.OK is await outcome(vault, OTHER)


async def test_hold(vault: MemoryVault) -> None:
    """A held answer is given after the script has run out, until it is lifted."""
    vault.hold(URI, Outcome.UNAVAILABLE)
    vault.script(URI, Outcome.CORRUPT)
    answers = [await outcome(vault) for _ in range(3)]
    vault.hold(URI, Outcome.OK)

    assert [Outcome.CORRUPT, Outcome.UNAVAILABLE, Outcome.UNAVAILABLE] == answers
    assert Outcome.OK is await outcome(vault)


@pytest.mark.parametrize("answer", KINDS)
async def test_kinds(vault: MemoryVault, answer: Outcome) -> None:
    """Only an unavailability counts as evidence, and only a denial is exact (law 5)."""
    vault.script(URI, answer)
    with pytest.raises(KINDS[answer]) as caught:
        await vault.describe(URI)

    assert (answer is Outcome.UNAVAILABLE, answer is Outcome.DENIED) == (caught.value.counts, caught.value.exact)
    assert (URI, "scripted") == (caught.value.uri, caught.value.raw)


async def test_own_failure(vault: MemoryVault) -> None:
    """A failure that the test made itself is raised as it is."""
    failure = Unavailable("429", uri=URI, classifier="test/1")
    vault.script(URI, failure)
    with pytest.raises(Unavailable) as caught:
        await vault.describe(URI)

    assert failure is caught.value


async def test_counters(vault: MemoryVault) -> None:
    """Calls are counted by operation and key, also those that fail; administration is not."""
    vault.script(URI, Outcome.DENIED)
    for uri in (URI, URI, OTHER):
        await outcome(vault, uri)
    await vault.wrap(OTHER, bytes(64), b"")
    await vault.rotate(URI)

    assert {("describe", URI): 2, ("describe", OTHER): 1, ("wrap", OTHER): 1} == vault.calls


async def test_slow(vault: MemoryVault, clock: ManualClock) -> None:
    """A slow key answers when the clock has moved on."""
    vault.slow(URI, 5)
    async with asyncio.TaskGroup() as group:
        call = group.create_task(vault.describe(URI))
        await until_asleep(clock)
        busy = vault.in_flight
        clock.advance(5)

    assert isinstance(call.result(), KeyDescription)
    assert (1, 0) == (busy, vault.in_flight)


async def test_given_up(vault: MemoryVault, clock: ManualClock) -> None:
    """A slow call that is cancelled is in flight no more and leaves no sleeper."""
    vault.slow(URI, 5)
    async with asyncio.TaskGroup() as group:
        call = group.create_task(vault.describe(URI))
        await until_asleep(clock)
        call.cancel()

    assert call.cancelled()
    assert (0, 0) == (vault.in_flight, clock.sleepers)


async def until_asleep(clock: ManualClock) -> None:
    """Let other tasks run until one waits for the clock."""
    for _ in range(10):
        await asyncio.sleep(0)

    assert 1 == clock.sleepers


async def test_retained(vault: MemoryVault, clock: ManualClock) -> None:
    """A destroyed key that is retained opens nothing at once, and is gone for good when that time is over."""
    uri = "local://provider/availability"
    await vault.create(uri)
    wrapped = await vault.wrap(uri, bytes(64), b"")
    vault.retain(60)
    first = await vault.destroy(uri)
    with pytest.raises(Denied):
        await vault.unwrap(wrapped, b"")
    clock.advance(59)

    assert clock.now() < (first.final_at or clock.now()) == (await vault.destroy(uri)).final_at
    clock.advance(1)

    assert (await vault.destroy(uri)).is_final
