"""How the installation stands, and that it could come to that by what was done to it."""

from pathlib import Path
from random import Random

from sqlalchemy import select

from schemas.identifiers import SERVICE_POLICY, ApprovalState, PolicyState, Workload
from tests.model.containers import Container, is_site
from tests.model.installation import CUSTODY, PEOPLE
from tests.model.model import COOLING, Model, Request
from tests.model.people import People
from tests.model.policies import Answer, Policy
from twinlock.approvals.rows import find_approval
from twinlock.approvals.statement import Action
from twinlock.custody.fate import bound_seconds, silent_bound_seconds
from twinlock.custody.policies import find_policy
from twinlock.errors import NotFound
from twinlock.store.tables.work import jobs, requests
from workers.dep_assigner.expansion import ASSIGN

_UNDECIDED = (ApprovalState.OPEN, ApprovalState.APPROVED)
_PURGED = (PolicyState.PURGING, PolicyState.PURGED)


class World:
    """Hold an installation with its model; whatever is done ends with a look at how the one follows the other."""

    def __init__(self, folder: Path, template: Path, order: Random) -> None:
        self.home = People(folder, template, order)
        silent = {workload: silent_bound_seconds(CUSTODY, workload) for workload in Workload}
        self.model = Model(bound_seconds(CUSTODY), silent, CUSTODY.keep_seconds)
        self.ids: dict[str, str] = {}  # of policies, by their names

    async def look(self) -> None:
        """Follow how requests, policies and containers stand, and see that each could come to that."""
        model = self.model
        model.now = self.home.clock.monotonic()
        model.changed()
        found, policies = await self._standing()
        for request in list(model.requests.values()):
            self._follow_request(request, found[request.id])
        for policy in list(model.policies.values()):
            self._follow_policy(policy, policies[policy.name])
        assigned = await self._all_assigned()
        for container in list(model.containers.values()):
            await self._look_at(container)
        for container in model.containers.values():
            if assigned:
                container.wanted.clear()
        for policy in model.policies.values():
            policy.lost = model.answers(policy) == [Answer.DENIED, Answer.DENIED]
            used = self.asked(policy.name)
            assert used <= 0 or policy.may_have_stood_in(), f"{policy}: its availability key was asked {used} times"

    async def crash(self) -> None:
        """Kill everything."""
        await self.home.crash()
        self.model.crashed()

    def asked(self, name: str) -> int:
        """Count how often availability keys of a policy were asked for a policy key; who wraps one looks at it once."""
        calls = self.home.provider.calls.items()
        sign = {"unwrap": 1, "wrap": -1}
        return sum(sign.get(asked, 0) * count for (asked, uri), count in calls if self.ids[name] in uri)

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
            policy.recovered(request.keys)
            self.model.changed()

    def _follow_policy(self, policy: Policy, state: PolicyState) -> None:
        if (policy.state, state) == _PURGED and not self.model.undecided(policy, Action.PURGE):
            self.model.moved(policy, state)
        assert policy.state is state, (policy, state)

    async def _all_assigned(self) -> bool:
        """Tell whether nothing is left of what could put a container under another policy."""
        rows = self.home.staff.rows
        left = select(jobs.c.id).where(jobs.c.kind == ASSIGN)  # a site's is of the same name
        unanswered = select(requests.c.id).where(requests.c.outcome.is_(None))
        return await self.home.quiet() and not await rows(left) and not await rows(unanswered)

    async def _look_at(self, container: Container) -> None:
        parts, name = self.home.parts, container.name
        try:
            status = await (parts.sites.show(name) if is_site(name) else parts.mailboxes.show(name))
        except NotFound:
            assert self._may_be_gone(container), container
            del self.model.containers[name]
            return
        policy = SERVICE_POLICY if status.policy is None else self._name_of(status.policy)
        assert policy in {container.policy, *container.wanted}, (container, policy)
        container.policy = policy

    def _may_be_gone(self, container: Container) -> bool:
        """Tell whether a purge that was carried out may have taken a container."""
        names = {container.policy, *container.wanted} - {SERVICE_POLICY}
        policies = [self.model.policies[name] for name in names]
        return any(each.state in _PURGED and not self.model.undecided(each, Action.PURGE) for each in policies)

    def _name_of(self, policy_id: str) -> str:
        (name,) = (name for name, known in self.ids.items() if known == policy_id)
        return name
