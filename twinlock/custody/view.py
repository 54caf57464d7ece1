"""How a policy key stands at one moment: everything that a decision takes, read in one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from schemas.identifiers import AvailabilityMode
from twinlock.custody.decision import AvailabilityKeyState, Decision, Evidence, Outcomes, decide
from twinlock.custody.health.evidence import proven_unavailable
from twinlock.custody.health.verdicts import SlotVerdict, Standing, read_standing, record
from twinlock.custody.policies import Policy
from twinlock.custody.port import Asker
from twinlock.custody.rows import StoredPolicyKey, read_availability_state, read_policy, read_policy_key
from twinlock.custody.settings import EvidenceRules
from twinlock.custody.unwrap import Unwrapped
from twinlock.errors import NotFound
from twinlock.store.unit import Cause, Reader, Store, Unit


@dataclass(frozen=True, slots=True)
class View:
    """Hold what was read; `proven` says for each slot whether its failures prove an outage."""

    standing: Standing
    stored: StoredPolicyKey
    availability: AvailabilityKeyState
    proven: tuple[bool, bool]

    @property
    def policy(self) -> Policy:
        """Return the policy's row."""
        return self.standing.policy

    def decide(self, asker: Asker, outcomes: Outcomes, *, root_only: bool = False, witness: bool = False) -> Decision:
        """Decide one call; `root_only` has the policy count as of mode `none`."""
        return decide(
            state=self.policy.state,
            mode=AvailabilityMode.NONE if root_only else self.policy.mode,
            initiator=asker.initiator.kind,
            slots=outcomes,
            evidence=Evidence(*self.proven, witness=witness),
            availability=self.availability,
        )


async def load(
    reader: Reader, policy_id: str, generation: int | None, now: datetime, rules: EvidenceRules
) -> View | NotFound:
    """Read a policy and one generation of its key, by default the newest; return NotFound if either is gone."""
    try:
        standing = await read_standing(reader, policy_id)
        newest = standing.policy.newest_generation
        stored = await read_policy_key(reader, standing.policy, newest if generation is None else generation)
    except NotFound as gone:
        return gone
    return await _view(reader, standing, stored, now, rules)


async def learn(store: Store, stored: StoredPolicyKey, found: Unwrapped, cause: Cause, rules: EvidenceRules) -> View:
    """Store what root keys answered, with its events, and return how the policy stands now."""
    async with store.begin(cause) as unit:
        about = await _of_this_copy(unit, stored, found.verdicts)
        standing = await record(unit, stored.policy_id, about, rules)
        return await _view(unit, standing, stored, unit.clock.now(), rules)


async def _of_this_copy(unit: Unit, stored: StoredPolicyKey, heard: Sequence[SlotVerdict]) -> Sequence[SlotVerdict]:
    """Leave out what was heard about a copy that another one has replaced: it says nothing about the key that did.

    A recovery would begin with the denial of the key that it took away.
    """
    policy = await read_policy(unit, stored.policy_id, lock=True)
    try:
        current = (await read_policy_key(unit, policy, stored.generation)).copies
    except NotFound:
        return ()  # the generation was destroyed meanwhile
    return [each for each in heard if stored.copies.get(each.slot) == current.get(each.slot)]


async def _view(
    reader: Reader, standing: Standing, stored: StoredPolicyKey, now: datetime, rules: EvidenceRules
) -> View:
    availability = await read_availability_state(reader, stored)
    proven = await proven_unavailable(reader, stored.policy_id, now, rules)
    return View(standing, stored, availability, proven)
