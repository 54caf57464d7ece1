"""Ask root keys to unwrap a policy key: what an answer is worth, and failover from one slot to the other.

A vault's answer counts only once it fits the place and the commitment (law 1): anything else is `Corrupt` for its slot,
and the other slot is still asked. Which copies are asked, and of which identity, is what the rows say.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

from schemas.identifiers import Slot
from twinlock.custody.decision import ROOT_SLOTS
from twinlock.custody.guards import Guards
from twinlock.custody.health.verdicts import SlotVerdict
from twinlock.custody.latency import Latencies
from twinlock.custody.operations import Operation
from twinlock.custody.rows import StoredPolicyKey
from twinlock.custody.settings import GuardSettings
from twinlock.keys.errors import DecryptionError
from twinlock.keys.ports import Clock, Corrupt, Outcome, Unavailable, Vault, VaultFailure, WrappedKey
from twinlock.keys.root_payload import open_payload
from twinlock.keys.secret import SecretKey

CLASSIFIER = "custody/1"


class Vaults(Protocol):
    """Find the vault of a key."""

    def of(self, uri: str) -> Vault:
        """Return the vault that serves a key's URI, or raise Misconfigured."""
        ...


@dataclass(frozen=True, slots=True)
class Unwrapped:
    """Hold what the root keys came to: the policy key and the slot that gave it, or nothing but verdicts."""

    key: SecretKey | None
    slot: Slot | None
    verdicts: tuple[SlotVerdict, ...]


class RootUnwrap(Protocol):
    """Open a policy key by its root keys; which of them is asked, and when, is the way's own business."""

    async def __call__(self, stored: StoredPolicyKey, heard: list[SlotVerdict]) -> Unwrapped:
        """Return the key from the first good answer; a failure is a verdict, never an exception.

        Each verdict is in `heard` as soon as it is there: what one slot said counts also where the other is cut off.
        """
        ...


class SlotAsker:
    """Ask single slots, each within its own deadline, and tell `latencies` how long each vault took."""

    def __init__(
        self,
        vaults: Vaults,
        clock: Clock,
        deadline: float,
        latencies: Latencies | None = None,
        guards: Guards | None = None,
    ) -> None:
        self._vaults = vaults
        self._guards = guards or Guards(clock, GuardSettings())
        self._clock = clock
        self._deadline = deadline
        self._latencies = latencies or Latencies(clock)

    async def ask(self, stored: StoredPolicyKey, slot: Slot) -> Unwrapped:
        """Ask one slot."""
        asked_at = self._clock.now()
        try:
            key = await self._unwrap(stored, slot)
        except VaultFailure as failure:
            return Unwrapped(None, None, (SlotVerdict.failed(slot, failure, asked_at),))
        return Unwrapped(key, slot, (SlotVerdict(slot, Outcome.OK, asked_at),))

    async def ask_both(self, stored: StoredPolicyKey) -> tuple[Unwrapped, Unwrapped]:
        """Ask both slots at the same time."""
        async with asyncio.TaskGroup() as group:
            a, b = (group.create_task(self.ask(stored, slot)) for slot in ROOT_SLOTS)
        return a.result(), b.result()

    async def _unwrap(self, stored: StoredPolicyKey, slot: Slot) -> SecretKey:
        wrapped = stored.copies.get(slot)
        if wrapped is None:
            raise Corrupt("the stored copy is gone", uri="", classifier=CLASSIFIER, exact=True)
        vault = self._vaults.of(wrapped.uri)
        guarded = self._guards.around(wrapped.uri, stored.account, Operation.UNWRAP)
        with guarded, self._latencies.timed(stored.vault(slot)):
            return await unwrap_verified(vault, wrapped, stored, slot, self._deadline)


async def unwrap_verified(
    vault: Vault, wrapped: WrappedKey, stored: StoredPolicyKey, slot: Slot, deadline: float
) -> SecretKey:
    """Have a vault unwrap one copy, and check what it answers; raise a `VaultFailure`.

    No answer within `deadline` counts as evidence: the vault had all of it. A caller in a greater hurry cancels
    instead, and then nothing is learnt.
    """
    context = stored.context(slot)
    try:
        async with asyncio.timeout(deadline):
            payload = await vault.unwrap(wrapped, context.encode())
    except TimeoutError:
        raise no_answer(wrapped.uri, deadline) from None
    try:
        return open_payload(payload, context, stored.commitment)
    except DecryptionError:
        raise Corrupt(
            "the vault's answer does not match the commitment",
            uri=wrapped.uri,
            raw="commitment",
            classifier=CLASSIFIER,
            exact=True,
        ) from None


def no_answer(uri: str, seconds: float, *, counts: bool = True) -> Unavailable:
    """Say that a vault let its whole deadline pass; or, where that does not count, the time of a hurried caller."""
    return Unavailable(
        f"the vault did not answer within {seconds:g} s", uri=uri, raw="deadline", classifier=CLASSIFIER, counts=counts
    )


class Failover:
    """Ask one of the two root keys, picked at random, then the other."""

    def __init__(self, asker: SlotAsker, rng: Random) -> None:
        self._asker = asker
        self._rng = rng

    async def __call__(self, stored: StoredPolicyKey, heard: list[SlotVerdict]) -> Unwrapped:
        """Return the first good answer, with the verdicts on the way to it."""
        for slot in self._order():
            found = await self._asker.ask(stored, slot)
            heard += found.verdicts
            if found.key is not None:
                return Unwrapped(found.key, slot, tuple(heard))
        return Unwrapped(None, None, tuple(heard))

    def _order(self) -> Sequence[Slot]:
        return self._rng.sample(ROOT_SLOTS, 2)
