"""What a drill found out, and what recovery would take: the sandbox measures, the real rows only are read."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select

from cli.drill.sandbox import Sandbox
from cli.drill.scenario import Scenario, mend, strike
from cli.drill.timeline import Reader as Asking
from cli.drill.timeline import Timeline
from schemas.identifiers import AvailabilityMode, PolicyState
from twinlock.approvals.approvers import read_approvers
from twinlock.approvals.chain import NEEDED
from twinlock.custody.decision import AvailabilityKeyState
from twinlock.custody.policies import Policy
from twinlock.custody.port import USER
from twinlock.custody.rows import read_availability_state, read_policy_key
from twinlock.custody.settings import CustodySettings
from twinlock.store.tables.content import containers
from twinlock.store.unit import Reader

_MORE = 1.1  # so much longer than the bound is watched, to see that nobody is served after it


@dataclass(frozen=True, slots=True)
class Real:
    """Hold what matters of the real policy, as one read saw it."""

    policy: Policy
    containers: int
    availability: AvailabilityKeyState
    approvers: int

    @property
    def lacks(self) -> Sequence[str]:
        """Say what stands in the way of a recovery by the availability key."""
        found = []
        if self.policy.mode is AvailabilityMode.NONE:
            found.append("mode none: no availability key was ever made, so the data is lost")
        elif self.availability is not AvailabilityKeyState.PRESENT:
            found.append(f"its availability key is {self.availability.value}, so the data is lost")
        if self.approvers < NEEDED:
            found.append(f"{NEEDED} approvers whose signatures count; the tenant has {self.approvers}")
        if self.policy.state is not PolicyState.ACTIVE:
            found.append(f"the policy is {self.policy.state.value}")
        return found


@dataclass(frozen=True, slots=True)
class Measured:
    """Hold what the sandbox came to: when people and the service were refused, and when people were served again."""

    users: Asking
    service: Asking
    healed_after: float | None
    containers: int
    resolution: float


async def read_real(reader: Reader, policy: Policy, now: datetime) -> Real:
    """Read what matters of the real policy."""
    count = await reader.scalar(select(func.count()).where(containers.c.policy_id == policy.id))
    availability = AvailabilityKeyState.DESTROYED
    if policy.state is not PolicyState.PURGED:
        availability = await read_availability_state(
            reader, await read_policy_key(reader, policy, policy.newest_generation)
        )
    approvers = (await read_approvers(reader, policy.tenant_id)).counting(now)
    return Real(policy, int(count), availability, len(approvers))


async def measure(
    scenario: Scenario, sandbox: Sandbox, settings: CustodySettings, mode: AvailabilityMode, bound: float
) -> Measured:
    """Open the sandbox's policy, strike its keys, watch, and have them mended, or recover onto others."""
    await sandbox.serves(USER)
    await strike(scenario, sandbox.vault)
    timeline = Timeline(sandbox, settings)
    users, service = await timeline.watch(bound * _MORE)
    healed = await _heal(scenario, sandbox, timeline, mode) if users.refused_after is not None else None
    return Measured(users, service, healed, len(sandbox.containers), timeline.step)


async def _heal(scenario: Scenario, sandbox: Sandbox, timeline: Timeline, mode: AvailabilityMode) -> float | None:
    if scenario is Scenario.LOSE_BOTH:
        return None if mode is AvailabilityMode.NONE else await sandbox.recovery.carry_out()
    await mend(scenario, sandbox.vault)
    return await timeline.until_served(2 * max(timeline.settings.refusal_schedule))
