"""What is decided about a policy: revocation, recovery, purge, and who signs or cancels it."""

from schemas.event import Event
from schemas.identifiers import AvailabilityMode, PolicyState, RequestOutcome
from schemas.requests import PurgeRequested, RecoveryRequested
from tests.model.acts import Acts, keys_of
from tests.model.installation import CAUSE, PEOPLE, patience
from tests.model.model import Request
from tests.model.policies import Answer
from twinlock.approvals.errors import Refused
from twinlock.approvals.rows import Approval
from twinlock.approvals.statement import Action
from twinlock.custody.policies import find_policy
from twinlock.custody.revocation import revocations
from twinlock.errors import TwinlockError


class Decisions(Acts):
    """Decide, each time held against the model."""

    async def revoke(self, name: str) -> None:
        """Revoke a policy on our side."""
        policy = self.model.policies[name]
        await self.home.moving(self._revoke(name))
        self.model.moved(policy, PolicyState.REVOKED)
        policy.revocations += 1
        await self.look()

    async def _revoke(self, name: str) -> None:
        async with self.home.store.begin(CAUSE) as unit:
            change = await revocations.change(unit, self.ids[name], PolicyState.REVOKED, self.home.acts.audit)
            await revocations.announce(unit, change.number)

    async def restore(self, name: str) -> None:
        """Ask for the lifting of a revocation."""
        async with self.home.store.read() as reader:
            policy = await find_policy(reader, f"acme/{name}")
        asked = await self.home.moving(self.home.acts.restore(CAUSE, policy, "by mistake"))
        assert isinstance(asked, Approval)
        self._note(Request(asked.id, Action.RESTORE_POLICY, name))

    async def recover(self, name: str) -> None:
        """Ask for a recovery onto a new pair of keys: only who has lost both gets that far."""
        if self.model.down:
            return
        self._pairs += 1
        keys = keys_of(f"{name}-{self._pairs}")
        for uri in keys:
            await self.home.vault.create_root_key(uri)
        wanted = RecoveryRequested(policy=f"acme/{name}", keys=keys, reason="lost")
        can_be = self.model.policies[name].mode is not AvailabilityMode.NONE
        if (request := await self._asked(name, wanted, can_be)) is not None:
            self._note(Request(request, Action.RECOVER, name, keys))

    async def purge(self, name: str) -> None:
        """Ask for a purge: only a policy whose keys are both denied gets that far."""
        policy = self.model.policies[name]
        before = policy.state
        request = await self._asked(name, PurgeRequested(policy=policy.reference, reason="over", contact="ann"))
        if request is not None:
            policy.before = before
            self.model.moved(policy, PolicyState.PURGING)
            self._note(Request(request, Action.PURGE, name))
            await self.look()

    async def _asked(self, name: str, wanted: Event, can_be: bool = True) -> str | None:
        """Ask until the answer is what it has to be; return the id of the request that two have to sign."""
        policy = self.model.policies[name]
        denied = self.model.answers(policy) == [Answer.DENIED, Answer.DENIED]
        free = policy.state is PolicyState.ACTIVE
        async with patience(f"{wanted.type} about {name}, whose keys are denied"):
            while True:
                answered = await self.home.ask(wanted)
                if RequestOutcome.DONE == answered.outcome:
                    assert denied, f"{name}: {wanted.type} was taken while a root key may answer"
                    assert can_be, f"{name}: there is nothing to recover it by"
                    return str(answered.answer["id"])
                if not (denied and free and can_be):
                    return None

    def _note(self, request: Request) -> None:
        self.model.requests.setdefault(request.id, request)

    async def sign(self, request: Request) -> None:
        """Have the next approver sign; what follows is done at once, where it can be."""
        name, policy = PEOPLE[len(request.signed)], self.model.policies[request.policy]
        policy.recovering |= request.action == Action.RECOVER and PEOPLE[-1] == name
        try:
            await self.home.sign(request.id, name)
        except TwinlockError:  # its policy is purged meanwhile
            assert request.action == Action.RESTORE_POLICY, request
            assert policy.state is not PolicyState.REVOKED, request
            return
        request.signed.append(name)
        request.signed_at = self.model.now
        await self.home.settle()
        await self.look()

    async def cancel(self, request: Request) -> None:
        """Cancel a request, unless it is too late."""
        try:
            await self.home.moving(self.home.acts.cancel(CAUSE, request.id))
            request.cancelled = True
        except Refused:
            assert len(request.signed) == len(PEOPLE), request
        await self.look()
