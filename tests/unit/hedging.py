"""Two memory vaults, one policy key and a hedge, on a clock that jumps."""

from dataclasses import dataclass, field, replace
from random import Random

import pytest

from schemas.identifiers import Slot
from tests.virtual import VirtualClock
from twinlock.custody.health.verdicts import SlotVerdict
from twinlock.custody.hedge import Hedged, Turns
from twinlock.custody.latency import Latencies
from twinlock.custody.rows import StoredPolicyKey
from twinlock.custody.settings import HedgeSettings
from twinlock.custody.unwrap import SlotAsker, Unwrapped
from twinlock.keys.errors import KeyWipedError
from twinlock.keys.ports import Outcome, WrappedKey
from twinlock.keys.root_payload import seal
from twinlock.keys.secret import SecretKey
from twinlock.vaults.directory import VaultDirectory
from twinlock.vaults.software.memory import MemoryVault

ROOTS = {Slot.A: "memory://east/root", Slot.B: "memory://west/root"}
# Parts of two are exact as floats: what is due at one moment is so in the test as well. No answer meets the deadline.
DEADLINE, OFFSET = 2 + 1 / 2048, 1 / 8
NEVER = 1e6
FOREIGN, GONE = "another key", "no copy"
SETTINGS = HedgeSettings(initial=OFFSET, floor=0.0, cap=9.0, warm_up=10**6)
# The seeds by which one or the other root key begins.
SEEDS = {Turns(Random(seed)).next("p")[0]: seed for seed in range(9)}  # noqa: S311  # every run asks in the same order


@dataclass(frozen=True)
class Answer:
    """Say what one root key does: an outcome, another key than the committed one, or a copy that is gone."""

    what: str
    delay: float = 0.0

    @property
    def seconds(self) -> float:
        """Return when the asker knows, from the request on."""
        return 0.0 if self.what == GONE else min(self.delay, DEADLINE)

    @property
    def outcome(self) -> Outcome:
        """Return what it comes to."""
        if self.what == GONE:
            return Outcome.CORRUPT
        if self.delay > DEADLINE:
            return Outcome.UNAVAILABLE
        return Outcome.CORRUPT if self.what == FOREIGN else Outcome(self.what)


class Recording(SlotAsker):
    """Keep every key that was ever there."""

    def __init__(self, vault: MemoryVault, clock: VirtualClock, latencies: Latencies) -> None:
        super().__init__(VaultDirectory({"memory": vault}), clock, DEADLINE, latencies)
        self.keys: list[SecretKey] = []

    async def ask(self, stored: StoredPolicyKey, slot: Slot) -> Unwrapped:
        """Ask one slot."""
        found = await super().ask(stored, slot)
        self.keys += [] if found.key is None else [found.key]
        return found


@dataclass
class Bench:
    """Hold two vaults, one policy key and a hedge."""

    vault: MemoryVault
    stored: StoredPolicyKey
    asker: Recording
    latencies: Latencies
    hedged: Hedged
    key: SecretKey
    lead: Slot
    heard: list[SlotVerdict] = field(default_factory=list)

    @property
    def other(self) -> Slot:
        """Return the slot that is not asked first."""
        return Slot.B if self.lead is Slot.A else Slot.A

    def asked(self, *slots: Slot) -> int:
        """Count the requests for these slots."""
        return sum(self.vault.calls["unwrap", ROOTS[slot]] for slot in slots)

    async def schedule(self, answers: dict[Slot, Answer]) -> None:
        """Have the two root keys do so."""
        copies = dict(self.stored.copies)
        for slot, answer in answers.items():
            if answer.what == GONE:
                del copies[slot]
            elif answer.what == FOREIGN:
                copies[slot] = (await wrap(self.vault, SecretKey.generate(), self.stored, slot))[slot]
            else:
                self.vault.hold(ROOTS[slot], Outcome(answer.what))
            self.vault.slow(ROOTS[slot], answer.delay)
        self.stored = replace(self.stored, copies=copies)

    def check_nothing_is_left(self, winner: SecretKey | None) -> None:
        """Fail if a request still runs, or a key that nobody got is not wiped."""
        assert 0 == self.vault.in_flight
        for key in self.asker.keys:
            if key is not winner:
                with pytest.raises(KeyWipedError):
                    key.expose()


async def bench(rules: HedgeSettings = SETTINGS, lead: Slot = Slot.A, vault: MemoryVault | None = None) -> Bench:
    """Set up two root keys that answer at once, of which one is asked first in the first unwrap."""
    clock = VirtualClock()
    vault = vault or MemoryVault(clock)
    key = SecretKey.generate()
    stored = StoredPolicyKey("t", "p", 1, key.commitment(), {})
    for uri in ROOTS.values():
        await vault.create_root_key(uri)
    stored = replace(stored, copies=await wrap(vault, key, stored))
    latencies = Latencies(clock, rules)
    asker = Recording(vault, clock, latencies)
    hedged = Hedged(asker, clock, latencies, rules, Random(SEEDS[lead]))  # noqa: S311  # every run asks in the same order
    return Bench(vault, stored, asker, latencies, hedged, key, lead)


async def wrap(vault: MemoryVault, key: SecretKey, stored: StoredPolicyKey, *slots: Slot) -> dict[Slot, WrappedKey]:
    """Wrap a key for some slots, by default for both."""
    contexts = {slot: stored.context(slot) for slot in slots or ROOTS}
    return {slot: await vault.wrap(ROOTS[slot], seal(key, at), at.encode()) for slot, at in contexts.items()}
