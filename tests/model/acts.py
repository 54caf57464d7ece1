"""What people and accidents do to the installation, each held against the model."""

import asyncio
from pathlib import Path
from random import Random

from sqlalchemy import select

from schemas.event import Event
from schemas.identifiers import SERVICE_POLICY, AvailabilityMode, PolicyState, RequestOutcome
from schemas.requests import AssignmentRequested, MoveRequested, PurgeRequested, RecoveryRequested, RefreshRequested
from tests.integration.one_process.staff import PATIENCE
from tests.model.installation import CAUSE, PEOPLE
from tests.model.mail import Mail
from tests.model.model import VAULTS, Answer, Box, Policy, Request
from twinlock.approvals.errors import Refused
from twinlock.approvals.rows import Approval
from twinlock.approvals.statement import Action
from twinlock.custody import revocations
from twinlock.custody.policies import find_policy
from twinlock.errors import TwinlockError
from twinlock.store.tables.bus import dead_letters

BOXES = ("ann@acme.example", "bob@acme.example", "eve@acme.example")
POLICIES = {"common": AvailabilityMode.STANDARD, "strict": AvailabilityMode.STRICT}

# What follows a request: all that can be done, below zero so many moments, or so many turns until everything is killed.
Then = int | None


def keys_of(name: str) -> tuple[str, str]:
    """Name a pair of root keys."""
    first, second = (f"memory://{vault}/{name}" for vault in VAULTS)
    return first, second


class Acts(Mail):
    """Act, each time held against the model."""

    def __init__(self, folder: Path, template: Path, order: Random) -> None:
        super().__init__(folder, template, order)
        self._pairs = 0

    async def furnish(self) -> None:
        """Make everything that there is at first."""
        await self.home.furnish({name: (mode, keys_of(name)) for name, mode in POLICIES.items()})
        async with self.home.store.read() as reader:
            self.ids = {name: (await find_policy(reader, f"acme/{name}")).id for name in POLICIES}
        self.model.policies = {name: Policy(name, keys_of(name)) for name in POLICIES}
        for address in BOXES:
            await self.add(address)
            await self.bring(address, [1, 2, 2])
        for name, address in zip(POLICIES, BOXES, strict=False):
            self.model.boxes[address].wanted.add(name)
            await self.home.publish(AssignmentRequested(policy=f"acme/{name}", mailboxes=(address,)))
        await self.home.settle()
        await self.look()
        self.home.line.mixes = True

    # Requests

    async def ask(self, event: Event, then: Then) -> None:
        """Publish a request; have it done, or go on at once, or have everything killed after a while and go on."""
        await self.home.publish(event)
        if then is None:
            await self.home.settle()
        elif then < 0:
            await self.home.moments(-then)
        else:
            await self.home.turns(then)
            await self.home.crash()
        await self.look()

    async def assign(self, address: str, name: str, then: Then = None) -> None:
        """Put a mailbox under a policy, or back under the provider's."""
        if address not in self.model.boxes:
            return
        self.model.boxes[address].wanted.add(name)
        reference = "service" if name == SERVICE_POLICY else f"acme/{name}"
        await self.ask(AssignmentRequested(policy=reference, mailboxes=(address,)), then)

    async def move(self, address: str, then: Then = None) -> None:
        """Have a mailbox re-encrypted."""
        await self.ask(MoveRequested(mailbox=address), then)

    async def rotate(self, name: str, roll: bool, then: Then = None) -> None:
        """Rotate both root keys in their vaults, and bring the policy onto their new versions."""
        policy = self.model.policies[name]
        if not policy.disabled and not self.model.down:
            for uri in policy.keys:
                await self.home.vault.rotate(uri)
        await self.ask(RefreshRequested(policy=policy.reference, new_policy_key=roll), then)

    # Keys, vaults, time

    async def enable(self, name: str, slot: int, on: bool) -> None:
        """Disable a root key in its vault, or enable it."""
        policy = self.model.policies[name]
        uri = policy.keys[slot]
        await self.look()
        await (self.home.vault.enable(uri) if on else self.home.vault.disable(uri))
        (policy.disabled.discard if on else policy.disabled.add)(uri)
        await self.look()

    async def outage(self, vault: str, on: bool) -> None:
        """Cut a vault off, or bring it back."""
        await self.look()
        await self.home.vault.set_outage(vault, on)
        (self.model.down.add if on else self.model.down.discard)(vault)
        await self.look()

    async def wait(self, seconds: float) -> None:
        """Let time pass."""
        await self.home.pass_time(seconds)
        await self.look()

    async def crash(self, turns: int) -> None:
        """Kill everything after a while."""
        await self.home.turns(turns)
        await self.home.crash()
        await self.look()

    async def repeat(self, count: int) -> None:
        """Deliver again what was delivered before."""
        await self.home.line.repeat(self.home.store, count)
        await self.home.settle()
        await self.look()

    # Revocation, recovery, purge

    async def revoke(self, name: str) -> None:
        """Revoke a policy on our side."""
        await self.home.moving(self._revoke(name))
        self.model.moved(self.model.policies[name], PolicyState.REVOKED)
        await self.look()

    async def _revoke(self, name: str) -> None:
        async with self.home.store.begin(CAUSE) as unit:
            await revocations.change(unit, self.ids[name], PolicyState.REVOKED, self.home.acts.audit)

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
        if (request := await self._asked(name, wanted)) is not None:
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

    async def _asked(self, name: str, wanted: Event) -> str | None:
        """Ask until the answer is what it has to be; return the id of the request that two have to sign."""
        policy = self.model.policies[name]
        denied = self.model.answers(policy) == [Answer.DENIED, Answer.DENIED]
        free = policy.state is PolicyState.ACTIVE
        async with asyncio.timeout(PATIENCE):
            while True:
                answered = await self.home.ask(wanted)
                if RequestOutcome.DONE == answered.outcome:
                    assert denied, f"{name}: {wanted.type} was taken while a root key may answer"
                    return str(answered.answer["id"])
                if not (denied and free):
                    return None

    def _note(self, request: Request) -> None:
        self.model.requests.setdefault(request.id, request)

    async def sign(self, request: Request) -> None:
        """Have the next approver sign; what follows is done at once, where it can be."""
        name, policy = PEOPLE[len(request.signed)], self.model.policies[request.policy]
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

    # The end

    async def end_well(self) -> None:
        """Give everything back, wait until all is done, and look at all that has to be there."""
        await self._give_back()
        await self.home.moving(self._rest())
        await self.look()
        for box in list(self.model.boxes.values()):
            await self._whole(box)
        for policy in self.model.policies.values():
            await self._calm(policy)
        assert [] == await self.home.staff.rows(select(dead_letters))
        inspection = await self.home.inspected()
        assert (True, 0) == (inspection.intact, inspection.unsealed), inspection.breaks

    async def _calm(self, policy: Policy) -> None:
        """Have a root key asked, and see that no alert stays."""
        if policy.state is PolicyState.ACTIVE:
            answered = await self.home.ask(RefreshRequested(policy=policy.reference))
            assert RequestOutcome.DONE == answered.outcome, answered

        async def told_no_more() -> bool:
            return not await self.is_told(policy.name)

        await self.home.until(told_no_more)

    async def _give_back(self) -> None:
        for vault in VAULTS:
            await self.outage(vault, False)
        for request in list(self.model.requests.values()):
            await self.cancel(request)
        for policy in list(self.model.policies.values()):
            await self._enable_all(policy)
        for request in list(self.model.requests.values()):
            for _ in PEOPLE:
                await self.sign(request)

    async def _enable_all(self, policy: Policy) -> None:
        for slot, uri in enumerate(policy.keys):
            if uri in policy.disabled:
                await self.enable(policy.name, slot, True)
        if policy.state is PolicyState.REVOKED:
            await self.restore(policy.name)

    async def _rest(self) -> None:
        while not await self.home.staff.at_rest():
            await self.home.until(self.home.staff.parked)
            self.home.clock.advance(60.0)

    async def _whole(self, box: Box) -> None:
        await self.read(box.address, fresh=True)
        status = await self.home.parts.mailboxes.show(box.address)
        assert status.items == status.items_encrypted or status.policy is None, status
