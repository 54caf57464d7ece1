"""Remember refusals, in the memory of this process only, so that a refused policy does not hammer its vaults.

After a refusal the root keys are asked again on a slowing schedule, whether by a caller or by the prober. Any change of
the policy's row (its version), and any good answer of a root key, drops the memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from twinlock.custody.decision import Decision
from twinlock.custody.port import InitiatorClass
from twinlock.keys.ports import Clock


@dataclass(frozen=True, slots=True)
class _Refusal:
    decision: Decision
    version: int
    step: int
    due: float


class Refusals:
    """Keep the refusals of every policy, by class of initiator."""

    def __init__(self, clock: Clock, schedule: Sequence[float]) -> None:
        self._clock = clock
        self._schedule = tuple(schedule)
        self._held: dict[tuple[str, InitiatorClass], _Refusal] = {}

    def standing(self, policy_id: str, version: int, initiator: InitiatorClass) -> Decision | None:
        """Return the refusal that still holds, or none where the root keys are to be asked."""
        held = self._held.get((policy_id, initiator))
        if held is None or held.version != version:
            self._held.pop((policy_id, initiator), None)
            return None
        return held.decision if self._clock.monotonic() < held.due else None

    def remember(self, policy_id: str, version: int, initiator: InitiatorClass, decision: Decision) -> None:
        """Hold a refusal for the next step of the schedule."""
        old = self._held.get((policy_id, initiator))
        step = old.step + 1 if old is not None and old.version == version else 0
        pause = self._schedule[min(step, len(self._schedule) - 1)]
        due = self._clock.monotonic() + pause
        self._held[policy_id, initiator] = _Refusal(decision, version, step, due)

    def forget(self, policy_id: str) -> None:
        """Drop what is held of a policy: a root key answered."""
        for initiator in InitiatorClass:
            self._held.pop((policy_id, initiator), None)

    def postpone(self, policy_id: str, version: int) -> None:
        """Move on in the schedule: the root keys were asked, and still do not answer."""
        for initiator in InitiatorClass:
            held = self._held.get((policy_id, initiator))
            if held is not None and held.due <= self._clock.monotonic():
                self.remember(policy_id, version, initiator, held.decision)

    def held(self) -> set[str]:
        """Name the policies with a refusal: they are asked again on the schedule."""
        return {policy_id for policy_id, _ in self._held}

    def due(self) -> set[str]:
        """Name the policies whose root keys are to be asked again now."""
        now = self._clock.monotonic()
        return {policy_id for (policy_id, _), held in self._held.items() if held.due <= now}
