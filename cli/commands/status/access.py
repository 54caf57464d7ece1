"""Who is locked out, and who is about to be: by the decision table, from what is stored of each policy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select

from cli.commands.approval_documents import moment
from schemas.identifiers import PolicyState
from twinlock.custody.decision import ROOT_SLOTS, AvailabilityKeyState, Decision, Evidence, Result, decide
from twinlock.custody.health.verdicts import SlotStanding, Standing, read_standing
from twinlock.custody.policies import Policy
from twinlock.custody.port import InitiatorClass
from twinlock.custody.rows import read_availability_state, read_policy_key
from twinlock.keys.ports import Outcome
from twinlock.store.tables.content import containers
from twinlock.store.tables.custody import revocations
from twinlock.store.unit import Reader

_PROVEN = Evidence(a=True, b=True, witness=True)  # an outage that goes on proves itself within the minute
_EXPIRING = ("tik-expiring", "tik-refresh-failing", "key-expiring")


@dataclass(frozen=True, slots=True)
class Access:
    """Hold what people and the service get of a policy now, and since when it stands so."""

    policy: Policy
    standing: Standing
    users: Decision
    service: Decision
    containers: int
    ended: datetime | None  # when it was revoked or purged, if it was

    @property
    def is_locked_out(self) -> bool:
        """Say whether people can read nothing under it."""
        return self.users.result is Result.REFUSE

    @property
    def is_endangered(self) -> bool:
        """Say whether only one thing keeps people reading: the last root key, or the availability key."""
        return not self.is_locked_out and any(slot.folded is not Outcome.OK for slot in self.standing.slots.values())

    def document(self) -> dict[str, Any]:
        """Describe it."""
        since = self._since()
        return {
            "policy": str(self.policy),
            "id": self.policy.id,
            "tenant": self.policy.tenant,
            "mode": self.policy.mode.value,
            "who": self._who(),
            "why": self._why(),
            "since": None if since is None else moment(since),
            "containers": self.containers,
        }

    def _who(self) -> str:
        return "users and service" if self.service.result is Result.REFUSE else "users"

    def _why(self) -> str:
        if self.policy.state is not PolicyState.ACTIVE:
            return self.policy.state.value
        failing = [f"root key {name} {slot.folded.value}" for name, slot in self._failing()]
        return ", ".join(failing) or self.users.reason.value

    def _since(self) -> datetime | None:
        if self.policy.state is not PolicyState.ACTIVE:
            return self.ended
        moments = [_began(slot) for _, slot in self._failing()]
        return max((at for at in moments if at is not None), default=None)

    def _failing(self) -> Sequence[tuple[str, SlotStanding]]:
        slots = self.standing.slots
        return [(name.value, slots[name]) for name in ROOT_SLOTS if slots[name].folded is not Outcome.OK]


def _began(slot: SlotStanding) -> datetime | None:
    return slot.since if slot.outcome is slot.folded else slot.definite_at


async def read_access(reader: Reader, policy: Policy) -> Access:
    """Decide for a person and for the service, as the custodian would by all that is stored."""
    standing = await read_standing(reader, policy.id)
    availability = await _availability(reader, policy)
    users, service = (
        decide(
            state=policy.state,
            mode=policy.mode,
            initiator=initiator,
            slots=standing.outcomes,
            evidence=_PROVEN,
            availability=availability,
        )
        for initiator in (InitiatorClass.USER, InitiatorClass.SERVICE)
    )
    count = await reader.scalar(select(func.count()).where(containers.c.policy_id == policy.id))
    ended = await reader.scalar(select(func.max(revocations.c.at)).where(revocations.c.policy_id == policy.id))
    return Access(policy, standing, users, service, int(count), ended)


async def _availability(reader: Reader, policy: Policy) -> AvailabilityKeyState:
    if policy.state is not PolicyState.ACTIVE:
        return AvailabilityKeyState.ABSENT  # nothing is asked of it, and of a purged policy nothing is left
    return await read_availability_state(reader, await read_policy_key(reader, policy, policy.newest_generation))


def endangered(
    found: Sequence[Access],
    alerts: Sequence[Mapping[str, Any]],
    custodians: Sequence[Mapping[str, Any]],
    now: datetime,
) -> list[dict[str, Any]]:
    """Describe who is about to be locked out: one root key is left, or a key in memory nears its end unrenewed."""
    known = {access.policy.id: access for access in found}
    rows = [
        access.document() | {"why": _last_hope(access), "seconds_left": None}
        for access in found
        if access.is_endangered
    ]
    for alert in alerts:
        access = known.get(str(alert["policy"]))
        if alert["kind"] in _EXPIRING and access is not None and not access.is_locked_out:
            left = _seconds_left(access.policy.id, custodians, now)
            told = {"why": alert["detail"], "since": alert["first_seen"], "seconds_left": left}
            rows.append(access.document() | told)
    return rows


def _last_hope(access: Access) -> str:
    why: str = access.document()["why"]
    return why if access.users.result is Result.SERVE else f"{why}; the availability key serves"


def _seconds_left(policy_id: str, custodians: Sequence[Mapping[str, Any]], now: datetime) -> int | None:
    ends = [
        datetime.fromisoformat(key["expires"])
        for custodian in custodians
        for key in custodian["keys"]
        if key["policy"] == policy_id
    ]
    return max(0, round((min(ends) - now).total_seconds())) if ends else None
