"""Asking root keys: what an answer is worth, and failover."""

from random import Random

import pytest

from schemas.identifiers import Slot
from twinlock.clock import ManualClock
from twinlock.custody.rows import StoredPolicyKey
from twinlock.custody.unwrap import Failover, RootUnwrap, SlotAsker, unwrap_verified
from twinlock.keys.ports import Corrupt, Outcome, Unavailable, WrappedKey
from twinlock.keys.root_payload import seal
from twinlock.keys.secret import SecretKey
from twinlock.vaults.directory import VaultDirectory
from twinlock.vaults.software.memory import MemoryVault

A, B = "memory://east/root", "memory://west/root"
ROOTS = {Slot.A: A, Slot.B: B}


@pytest.fixture
async def vault(clock: ManualClock) -> MemoryVault:
    """Return a vault with two root keys."""
    made = MemoryVault(clock)
    for uri in (A, B):
        await made.create_root_key(uri)
    return made


@pytest.fixture
def key() -> SecretKey:
    """Return a policy key."""
    return SecretKey.generate()


@pytest.fixture
async def stored(vault: MemoryVault, key: SecretKey) -> StoredPolicyKey:
    """Return that key, wrapped by both."""
    return await wrapped(vault, key)


async def wrapped(vault: MemoryVault, key: SecretKey, policy: str = "p", generation: int = 1) -> StoredPolicyKey:
    """Wrap a policy key by both root keys, for one place."""
    copies: dict[Slot, WrappedKey] = {}
    stored = StoredPolicyKey("t", policy, generation, key.commitment(), copies)
    for slot, uri in ROOTS.items():
        context = stored.context(slot)
        copies[slot] = await vault.wrap(uri, seal(key, context), context.encode())
    return stored


def asker(vault: MemoryVault, clock: ManualClock, deadline: float = 60) -> SlotAsker:
    """Ask this vault alone."""
    return SlotAsker(VaultDirectory({"memory": vault}), clock, deadline)


def failover(vault: MemoryVault, clock: ManualClock, seed: int = 1) -> RootUnwrap:
    """Fall over between its two keys."""
    return Failover(asker(vault, clock), Random(seed))  # noqa: S311  # every run must ask in the same order


async def test_first_good_answer(
    vault: MemoryVault, clock: ManualClock, stored: StoredPolicyKey, key: SecretKey
) -> None:
    """A good first answer is enough: the other root key is not asked."""
    found = await failover(vault, clock)(stored, [])

    assert key == found.key
    assert [(found.slot, Outcome.OK)] == [(v.slot, v.outcome) for v in found.verdicts]
    assert 1 == vault.calls["unwrap", A] + vault.calls["unwrap", B]


async def test_either_first(vault: MemoryVault, clock: ManualClock, stored: StoredPolicyKey) -> None:
    """Which root key is asked first is picked at random, about evenly."""
    unwrap = failover(vault, clock)
    first = [(await unwrap(stored, [])).slot for _ in range(200)]

    assert 70 < first.count(Slot.A) < 130


@pytest.mark.parametrize("failing", [Slot.A, Slot.B])
@pytest.mark.parametrize("outcome", [o for o in Outcome if o is not Outcome.OK])
async def test_falls_over(
    vault: MemoryVault, clock: ManualClock, stored: StoredPolicyKey, failing: Slot, outcome: Outcome
) -> None:
    """Whatever way one root key fails, the other serves, and the failure is told if it was seen."""
    vault.hold(ROOTS[failing], outcome)
    for seed in range(6):
        found = await failover(vault, clock, seed)(stored, [])
        seen = {verdict.slot: verdict.outcome for verdict in found.verdicts}

        assert found.key is not None
        assert seen in ({found.slot: Outcome.OK}, {found.slot: Outcome.OK, failing: outcome})


async def test_both_fail(vault: MemoryVault, clock: ManualClock, stored: StoredPolicyKey) -> None:
    """When both fail there is no key, and a verdict for each slot with what its vault said."""
    vault.hold(A, Outcome.DENIED)
    vault.hold(B, Outcome.UNAVAILABLE)
    found = await failover(vault, clock)(stored, [])
    said = {v.slot: (v.outcome, v.exact, v.counts) for v in found.verdicts}

    assert (None, None) == (found.key, found.slot)
    assert {Slot.A: (Outcome.DENIED, True, False), Slot.B: (Outcome.UNAVAILABLE, False, True)} == said


async def test_law_1_commitment(vault: MemoryVault, clock: ManualClock) -> None:
    """Law 1: a vault that answers with another key than the committed one is corrupt; the good slot still serves."""
    key = SecretKey.generate()
    stored, foreign = await wrapped(vault, key), await wrapped(vault, SecretKey.generate())
    mixed = StoredPolicyKey(
        "t", "p", 1, stored.commitment, {Slot.A: foreign.copies[Slot.A], Slot.B: stored.copies[Slot.B]}
    )
    bad, good = await asker(vault, clock).ask_both(mixed)

    assert (None, Outcome.CORRUPT, True) == (bad.key, bad.verdicts[0].outcome, bad.verdicts[0].exact)
    assert key == good.key


async def test_law_2_moved_copy(vault: MemoryVault, clock: ManualClock, key: SecretKey) -> None:
    """Law 2: the same key, wrapped for another policy, generation or slot, does not open here."""
    here = await wrapped(vault, key)
    for policy, generation in (("q", 1), ("p", 2)):
        there = await wrapped(vault, key, policy, generation)
        moved = StoredPolicyKey("t", "p", 1, here.commitment, there.copies)
        found = await failover(vault, clock)(moved, [])

        assert [Outcome.CORRUPT] * 2 == [verdict.outcome for verdict in found.verdicts]
    swapped = {Slot.A: here.copies[Slot.B], Slot.B: here.copies[Slot.A]}

    assert (await failover(vault, clock)(StoredPolicyKey("t", "p", 1, here.commitment, swapped), [])).key is None


async def test_law_1_remade_key(vault: MemoryVault, clock: ManualClock, stored: StoredPolicyKey) -> None:
    """Law 1: a root key made again under the same name is denied: its identity is not the pinned one."""
    await vault.delete(A)
    await vault.create_root_key(A)
    found = await asker(vault, clock).ask(stored, Slot.A)

    assert Outcome.DENIED == found.verdicts[0].outcome


async def test_missing_copy(vault: MemoryVault, clock: ManualClock, stored: StoredPolicyKey) -> None:
    """A slot whose stored copy is gone is corrupt; the other serves."""
    partial = StoredPolicyKey("t", "p", 1, stored.commitment, {Slot.B: stored.copies[Slot.B]})
    a, b = await asker(vault, clock).ask_both(partial)

    assert (Outcome.CORRUPT, Outcome.OK) == (a.verdicts[0].outcome, b.verdicts[0].outcome)


async def test_unknown_vault(clock: ManualClock, stored: StoredPolicyKey) -> None:
    """A copy whose vault nobody set up is our own misconfiguration."""
    found = await SlotAsker(VaultDirectory({}), clock, 60).ask(stored, Slot.A)

    assert Outcome.MISCONFIGURED == found.verdicts[0].outcome


async def test_deadline(vault: MemoryVault, clock: ManualClock, stored: StoredPolicyKey) -> None:
    """Law 5: a vault that lets its whole deadline pass is unavailable, which counts, and no call is left behind."""
    vault.slow(A, 1e9)
    found = await asker(vault, clock, deadline=0.01).ask(stored, Slot.A)

    assert (Outcome.UNAVAILABLE, True) == (found.verdicts[0].outcome, found.verdicts[0].counts)
    assert 0 == vault.in_flight


async def test_each_slot_has_its_deadline(vault: MemoryVault, clock: ManualClock, stored: StoredPolicyKey) -> None:
    """One vault that hangs takes nothing from the other's time."""
    vault.slow(A, 1e9)
    for seed in range(4):
        slots = asker(vault, clock, deadline=0.05)
        found = await Failover(slots, Random(seed))(stored, [])  # noqa: S311  # every run must ask in the same order

        assert Slot.B == found.slot


async def test_verified(vault: MemoryVault, stored: StoredPolicyKey) -> None:
    """The bare call raises what went wrong as a vault failure, without a word of the key."""
    other = StoredPolicyKey("t", "p", 1, bytes(32), stored.copies)
    with pytest.raises(Corrupt, match="commitment"):
        await unwrap_verified(vault, stored.copies[Slot.A], other, Slot.A, 60)
    vault.slow(A, 1e9)
    with pytest.raises(Unavailable, match=r"within 0\.01 s"):
        await unwrap_verified(vault, stored.copies[Slot.A], stored, Slot.A, 0.01)
