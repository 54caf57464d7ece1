"""The end of a run: everything is given back, and then all that has to be there is looked at."""

from collections import Counter

from sqlalchemy import select

from schemas.identifiers import AlertState, AvailabilityMode, PolicyState, RequestOutcome, Slot
from schemas.requests import RefreshRequested
from tests.model import effects
from tests.model.containers import Container, Site
from tests.model.decisions import Decisions
from tests.model.installation import PEOPLE
from tests.model.model import Request
from tests.model.policies import VAULTS, Policy
from twinlock.purging.rows import Stage
from twinlock.store.tables.alerts import alerts
from twinlock.store.tables.bus import dead_letters
from twinlock.store.tables.content import container_keys
from twinlock.store.tables.custody import policy_key_copies
from twinlock.store.tables.purges import purges
from twinlock.vaults.administration import KeyStatus

_DAY = 90000.0  # seconds, and somewhat more


class Ending(Decisions):
    """Come to an end."""

    async def end_well(self) -> None:
        """Give everything back, wait until all is done, and look at all that has to be there."""
        await self._give_back()
        await self.home.moving(self._rest())
        await self.look()
        for container in list(self.model.containers.values()):
            await self._whole(container)
        for policy in self.model.policies.values():
            await self._answers(policy)
        await self.alerts_fit()
        for policy in self.model.policies.values():
            await self._keys(policy)
        await self._effects()
        await self._day_later()
        inspection = await self.home.inspected()
        assert (True, 0) == (inspection.intact, inspection.unsealed), inspection.breaks

    async def _give_back(self) -> None:
        for vault in VAULTS:
            await self.outage(vault, False)
        for request in list(self.model.requests.values()):
            await self.cancel(request)
        for policy in list(self.model.policies.values()):
            for slot in range(len(policy.keys)):
                await self.allow(policy.name, slot)
            if policy.state is PolicyState.REVOKED:
                await self.restore(policy.name)
        for request in list(self.model.requests.values()):
            await self._sign_all(request)

    async def _sign_all(self, request: Request) -> None:
        for _ in PEOPLE[len(request.signed) :]:
            await self.sign(request)

    async def _rest(self) -> None:
        while not await self.home.staff.at_rest():
            await self.home.until(self.home.staff.parked)
            self.home.clock.advance(60.0)

    async def _whole(self, container: Container) -> None:
        """Read everything, and see that it is under its newest key."""
        await self.read(container.name, fresh=True)
        parts, name = self.home.parts, container.name
        if isinstance(container, Site):
            site = await parts.sites.show(name)
            assert site.policy is None or site.is_encrypted, site
        else:
            box = await parts.mailboxes.show(name)
            assert box.policy is None or box.items == box.items_encrypted, box

    async def _answers(self, policy: Policy) -> None:
        """Have the root keys asked."""
        if policy.state is PolicyState.ACTIVE:
            answered = await self.home.ask(RefreshRequested(policy=policy.reference))
            assert RequestOutcome.DONE == answered.outcome, answered

    async def _keys(self, policy: Policy) -> None:
        """See that there is what opens the policy key, and nothing else: after a purge, nothing at all."""
        rows, own = self.home.staff.rows, self.ids[policy.name]
        copy = policy_key_copies.c
        stored = await rows(select(copy.generation, copy.slot, copy.uri).where(copy.policy_id == own))
        places = Counter((row.slot, row.uri) for row in stored if row.slot != Slot.AVAILABILITY)
        gone = policy.state is PolicyState.PURGED
        assert places == Counter([] if gone else zip("ab", policy.keys, strict=True)), (policy, stored)
        left = 0 if gone or policy.mode is AvailabilityMode.NONE else 1
        assert left == sum(row.slot == Slot.AVAILABILITY for row in stored), (policy, stored)

        async def destroyed() -> bool:
            return left == len(await self._live(own))

        await self.home.until(destroyed)
        if gone:
            assert [] == await rows(select(container_keys.c.container_id).where(container_keys.c.policy_id == own))
            found = await rows(
                select(purges.c.certificate).where(purges.c.policy_id == own, purges.c.stage == Stage.DONE)
            )
            assert [True] == [row.certificate is not None for row in found], "a purge is certified once"

    async def _live(self, policy_id: str) -> list[str]:
        """Name the availability keys of a policy that the provider's vault still has."""
        made = {uri for asked, uri in self.home.provider.calls if asked == "create" and policy_id in uri}
        states = {uri: (await self.home.provider.state(uri)).state for uri in made}
        return [uri for uri, state in states.items() if state is not KeyStatus.DESTROYED]

    async def _effects(self) -> None:
        """See that everything that was told had its effect once."""
        await self.home.settle()
        assert [] == await self.home.staff.rows(select(dead_letters))
        async with self.home.store.read() as reader:
            await effects.check_once(reader, lambda kind: self.home.line.routes.get(kind, ()))
            await effects.check_alerts(reader)
            await effects.check_audit(reader)

    async def _day_later(self) -> None:
        """See that no alert is open a day after the last trouble."""
        await self.home.rest(_DAY)

        async def over() -> bool:
            return not await self.home.staff.rows(select(alerts.c.id).where(alerts.c.state == AlertState.OPEN))

        await self.home.until(over)
