"""How the installation stands, and that it could come to that by what was done to it."""

from pathlib import Path
from random import Random

from sqlalchemy import select

from schemas.identifiers import SERVICE_POLICY, AlertState, ApprovalState, PolicyState
from tests.model.installation import CUSTODY, PEOPLE
from tests.model.model import COOLING, Answer, Box, Model, Policy, Request
from tests.model.people import People
from twinlock.approvals.rows import find_approval
from twinlock.approvals.statement import Action
from twinlock.custody.fate import bound_seconds
from twinlock.custody.policies import find_policy
from twinlock.errors import NotFound
from twinlock.store.tables.alerts import alerts
from twinlock.store.tables.work import jobs, requests
from workers.dep_assigner.expansion import ASSIGN

_UNDECIDED = (ApprovalState.OPEN, ApprovalState.APPROVED)
_PURGED = (PolicyState.PURGING, PolicyState.PURGED)


class World:
    """Hold an installation with its model; whatever is done ends with a look at how the one follows the other."""

    def __init__(self, folder: Path, template: Path, order: Random) -> None:
        self.home = People(folder, template, order)
        self.model = Model(bound_seconds(CUSTODY), CUSTODY.keep_seconds)
        self.ids: dict[str, str] = {}  # of policies, by their names

    async def look(self) -> None:
        """Follow how requests, policies and mailboxes stand, and see that each could come to that."""
        model = self.model
        model.now = self.home.clock.monotonic()
        model.changed()
        found, policies = await self._standing()
        for request in list(model.requests.values()):
            self._follow_request(request, found[request.id])
        for policy in list(model.policies.values()):
            self._follow_policy(policy, policies[policy.name])
        assigned = await self._all_assigned()
        for box in list(model.boxes.values()):
            await self._look_at_box(box)
            if assigned:
                box.wanted.clear()
        for policy in model.policies.values():
            policy.lost = model.answers(policy) == [Answer.DENIED, Answer.DENIED]

    async def _standing(self) -> tuple[dict[str, ApprovalState], dict[str, PolicyState]]:
        """Read how requests and policies stand at one moment."""
        async with self.home.store.read() as reader:
            found = {name: (await find_approval(reader, name)).state for name in self.model.requests}
            return found, {name: (await find_policy(reader, f"acme/{name}")).state for name in self.model.policies}

    def _follow_request(self, request: Request, state: ApprovalState) -> None:
        if state in _UNDECIDED:
            return
        del self.model.requests[request.id]
        policy = self.model.policies[request.policy]
        if state is not ApprovalState.DONE:
            assert request.cancelled or (request.action == Action.PURGE and request.answered), request
            if request.action == Action.PURGE:
                self.model.moved(policy, policy.before)
            return
        assert list(PEOPLE) == request.signed, request
        assert request.action == Action.RESTORE_POLICY or policy.lost, request
        if request.action == Action.PURGE:
            assert self.model.now >= request.signed_at + COOLING, request
        elif request.action == Action.RESTORE_POLICY:
            self.model.moved(policy, PolicyState.ACTIVE)
        else:
            assert request.keys is not None
            self.model.policies[policy.name] = Policy(policy.name, request.keys, policy.state, since=policy.since)
            self.model.changed()

    def _follow_policy(self, policy: Policy, state: PolicyState) -> None:
        if (policy.state, state) == _PURGED and not self.model.undecided(policy, Action.PURGE):
            self.model.moved(policy, state)
        assert policy.state is state, (policy, state)

    async def _all_assigned(self) -> bool:
        """Tell whether nothing is left of what could put a mailbox under another policy."""
        rows = self.home.staff.rows
        left = select(jobs.c.id).where(jobs.c.kind == ASSIGN)
        unanswered = select(requests.c.id).where(requests.c.outcome.is_(None))
        return await self.home.quiet() and not await rows(left) and not await rows(unanswered)

    async def _look_at_box(self, box: Box) -> None:
        try:
            status = await self.home.parts.mailboxes.show(box.address)
        except NotFound:
            assert self._may_be_gone(box), box
            del self.model.boxes[box.address]
            return
        name = SERVICE_POLICY if status.policy is None else self._name_of(status.policy)
        assert name in {box.policy, *box.wanted}, (box, name)
        box.policy = name

    def _may_be_gone(self, box: Box) -> bool:
        """Tell whether a purge that was carried out may have taken a mailbox."""
        policies = [self.model.policies[name] for name in {box.policy, *box.wanted} - {SERVICE_POLICY}]
        return any(each.state in _PURGED and not self.model.undecided(each, Action.PURGE) for each in policies)

    def _name_of(self, policy_id: str) -> str:
        (name,) = (name for name, known in self.ids.items() if known == policy_id)
        return name

    async def is_told(self, name: str) -> bool:
        """Tell whether an open alert says that a policy is unhealthy."""
        row = alerts.c
        mine = (row.policy == self.ids[name], row.kind == "policy-unhealthy", row.state == AlertState.OPEN)
        return bool(await self.home.staff.rows(select(row.id).where(*mine)))
