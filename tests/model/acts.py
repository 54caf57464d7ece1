"""What people and accidents do to containers, keys and machines, each held against the model."""

from pathlib import Path
from random import Random

from schemas.event import Event
from schemas.identifiers import SERVICE_POLICY, AvailabilityMode, Workload
from schemas.requests import AssignmentRequested, MoveRequested, RefreshRequested, SiteMoveRequested
from tests.model.containers import GEO, is_site
from tests.model.policies import VAULTS, Policy
from tests.model.telling import Telling
from twinlock.custody.policies import find_policy

KINDS = {
    "common": (AvailabilityMode.STANDARD, Workload.MAILBOX),
    "strict": (AvailabilityMode.STRICT, Workload.MAILBOX),
    "own": (AvailabilityMode.NONE, Workload.MAILBOX),
    "sites": (AvailabilityMode.RECOVERY_ONLY, Workload.SITE),
}
POLICIES = tuple(KINDS)
FIRST = {  # which policy a container is put under in the beginning
    "ann@acme.example": "common",
    "bob@acme.example": "strict",
    "eve@acme.example": "own",
    "acme/hq": "sites",
    "acme/lab": "sites",
}
CONTAINERS = tuple(FIRST)

# What follows a request: all that can be done, below zero so many moments, or so many turns until everything is killed.
Then = int | None


def keys_of(name: str) -> tuple[str, str]:
    """Name a pair of root keys."""
    first, second = (f"memory://{vault}/{name}" for vault in VAULTS)
    return first, second


class Acts(Telling):
    """Act, each time held against the model."""

    def __init__(self, folder: Path, template: Path, order: Random) -> None:
        super().__init__(folder, template, order)
        self._pairs = 0

    async def furnish(self) -> None:
        """Make everything that there is at first."""
        self.model.policies = {name: Policy(name, *kind, keys_of(name)) for name, kind in KINDS.items()}
        await self.home.furnish(self.model.policies)
        async with self.home.store.read() as reader:
            self.ids = {name: (await find_policy(reader, f"acme/{name}")).id for name in POLICIES}
        for name, policy in FIRST.items():
            await self.add(name)
            await self.bring(name, [1, 2, 2])
            await self._order(name, policy)
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
            await self.crash()
        await self.look()

    async def assign(self, name: str, policy: str, then: Then = None) -> None:
        """Put a mailbox, or every site, under a policy, or back under the provider's."""
        if name in self.model.containers:
            await self.ask(self._assignment(name, policy), then)

    async def _order(self, name: str, policy: str) -> None:
        await self.home.publish(self._assignment(name, policy))

    def _assignment(self, name: str, policy: str) -> AssignmentRequested:
        self.model.containers[name].wanted.add(policy)
        reference = SERVICE_POLICY if policy == SERVICE_POLICY else f"acme/{policy}"
        if is_site(name):
            return AssignmentRequested(policy=reference, tenant="acme", geos=(GEO,))
        return AssignmentRequested(policy=reference, mailboxes=(name,))

    async def move(self, name: str, then: Then = None) -> None:
        """Have a container re-encrypted."""
        tenant, _, site = name.partition("/")
        await self.ask(SiteMoveRequested(tenant=tenant, site=site) if site else MoveRequested(mailbox=name), then)

    async def rotate(self, name: str, roll: bool, then: Then = None) -> None:
        """Rotate both root keys in their vaults, and bring the policy onto their new versions."""
        policy = self.model.policies[name]
        if not policy.denied and not self.model.down:
            for uri in policy.keys:
                await self.home.vault.rotate(uri)
        await self.ask(RefreshRequested(policy=policy.reference, new_policy_key=roll), then)

    # Keys, vaults, time

    async def deny(self, name: str, slot: int, deletes: bool = False) -> None:
        """Disable a root key in its vault, or delete it softly."""
        policy = self.model.policies[name]
        uri = policy.keys[slot]
        if uri in policy.deleted:
            return
        await self.look()
        await (self.home.vault.delete(uri) if deletes else self.home.vault.disable(uri))
        (policy.deleted if deletes else policy.disabled).add(uri)
        await self.look()

    async def allow(self, name: str, slot: int) -> None:
        """Restore a root key that is deleted, and enable one that is disabled."""
        policy = self.model.policies[name]
        uri = policy.keys[slot]
        if uri in policy.deleted:
            await self.look()
            await self.home.vault.restore(uri)
            policy.deleted.discard(uri)
            await self.look()
        if uri in policy.disabled:
            await self.look()
            await self.home.vault.enable(uri)
            policy.disabled.discard(uri)
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

    async def kill(self, turns: int) -> None:
        """Kill everything after a while."""
        await self.home.turns(turns)
        await self.crash()
        await self.look()

    async def repeat(self, count: int) -> None:
        """Deliver again what was delivered before."""
        await self.home.line.repeat(self.home.store, count)
        await self.home.settle()
        await self.look()
