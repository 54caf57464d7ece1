"""Handle a requested purge: both root keys are asked at once, and unless both are denied it is refused."""

from dataclasses import dataclass
from typing import Any

from events.answers import answer
from events.handler import Received
from schemas.event import Event
from schemas.identifiers import RequestOutcome
from schemas.names import RECOVERY_HANDLER
from schemas.requests import PurgeRequested
from twinlock.approvals import telling
from twinlock.approvals.statement import Action
from twinlock.custody.lifecycle import purging
from twinlock.custody.lifecycle.naming import made_by
from twinlock.custody.policies import Policy, find_policy
from twinlock.custody.port import Asker, Recovering, RequestRef, service
from twinlock.errors import TwinlockError
from twinlock.purging.requesting import PurgeWanted, Requesting
from twinlock.purging.rows import Look
from twinlock.store.unit import Store, Unit
from workers.recovery_handler.asking import note_refused

PURPOSE = "purge"


@dataclass(frozen=True, slots=True)
class _Plan:
    received: Received
    policy: Policy | None = None
    wanted: PurgeWanted | None = None
    refused: TwinlockError | None = None


class RequestPurge:
    """Have two approvers asked for a purge; the answer names the request, or says why not, with both verdicts."""

    consumer = RECOVERY_HANDLER
    handles: type[Event] = PurgeRequested

    def __init__(self, store: Store, recovering: Recovering, requesting: Requesting) -> None:
        self._store = store
        self._recovering = recovering
        self._requesting = requesting

    async def prepare(self, event: PurgeRequested, received: Received) -> _Plan:
        """Find the policy and ask both of its root keys."""
        asker = Asker(service(PURPOSE), received.cause, job=RequestRef(received.asked.source, received.asked.id))
        policy = None
        try:
            async with self._store.read() as reader:
                policy = await find_policy(reader, event.policy)
            at, look = self._store.clock.now(), None
            if purging.may_be(policy):
                look = Look(at, await self._recovering.examine(policy.id, asker))
        except TwinlockError as refused:
            return _Plan(received, policy, refused=refused)
        made = made_by(received.asked.source, received.asked.id)
        return _Plan(received, policy, PurgeWanted(made, policy, event.reason, event.contact, look))

    async def commit(self, unit: Unit, plan: _Plan) -> None:
        """Store the request and keep the policy from serving, or answer why not."""
        said: dict[str, Any] = {}
        if plan.wanted is None:
            await self._refuse(unit, plan, plan.refused or TwinlockError("it can't be purged"), said)
            return
        look = plan.wanted.look
        said = {"policy": plan.wanted.policy.id, "verdicts": [] if look is None else look.document()}
        try:
            approval = await self._requesting.request(unit, plan.wanted)
        except TwinlockError as refused:
            await self._refuse(unit, plan, refused, said)
            return
        await telling.tell(unit)
        done = f"the purge of policy {plan.wanted.policy} waits for two approvers"
        await answer(unit, plan.received.asked, RequestOutcome.DONE, {**said, "id": approval.id}, done)

    async def _refuse(self, unit: Unit, plan: _Plan, refused: TwinlockError, said: dict[str, Any]) -> None:
        await note_refused(unit, self._requesting.audit, Action.PURGE, plan.policy, refused.detail)
        detail = {**said, "hint": refused.hint}
        await answer(unit, plan.received.asked, RequestOutcome.REFUSED, detail, refused.detail)
