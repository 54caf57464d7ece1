"""The alerts that are open, held against what root keys answer, episode by episode."""

from itertools import count
from pathlib import Path
from random import Random

from sqlalchemy import select

from schemas.identifiers import AlertState, Audience, PolicyState
from tests.model.alerts import HELD, STANDING, TOLD, USED, Alert, Episodes, ended, matching
from tests.model.content import Reading
from tests.model.installation import Stuck
from tests.model.policies import Policy
from twinlock.store.tables.alerts import alerts

_LOOKS = 8  # at alerts, from one read to the next


class Telling(Reading):
    """Compare alerts with the model."""

    def __init__(self, folder: Path, template: Path, order: Random) -> None:
        super().__init__(folder, template, order)
        self._episodes: dict[str, Episodes] = {}

    async def alerts_fit(self) -> None:
        """See that exactly those alerts are open that have to be, once all root keys were asked, and that they last."""
        await self.look()
        looks = count()

        async def fit() -> bool:
            if next(looks) % _LOOKS == _LOOKS // 2:
                await self._ask_all()
            told = await self._told_of()
            return all(self._fits(policy, told[policy.name]) for policy in self.model.policies.values())

        try:
            await self.home.until(fit)
        except Stuck:
            raise AssertionError(self._misfits(await self._told_of())) from None
        told = await self._told_of()
        for policy in self._compared():
            self._last(policy, told[policy.name])
        await self.look()

    def _compared(self) -> list[Policy]:
        """Return the policies whose root keys are asked by whoever reads."""
        active = [each for each in self.model.policies.values() if each.state is PolicyState.ACTIVE]
        return [each for each in active if self.model.of(each) is not None]

    async def _ask_all(self) -> None:
        for policy in self._compared():
            container = self.model.of(policy)
            if container is not None:
                await self.read(container.name, fresh=True)

    async def _told_of(self) -> dict[str, list[Alert]]:
        """Read the alerts of every policy; a kind that nothing here can bring about is a fault."""
        found: dict[str, list[Alert]] = {name: [] for name in self.ids}
        names = {known: name for name, known in self.ids.items()}
        for row in await self.home.staff.rows(select(alerts)):
            assert row.kind in (*STANDING, USED, HELD, *TOLD), row
            if row.policy in names:
                opened = row.state == AlertState.OPEN
                found[names[row.policy]].append(Alert(row.id, row.kind, row.slot, row.audience, opened))
        return found

    def _fits(self, policy: Policy, told: list[Alert]) -> bool:
        times = [each.kind for each in told].count(HELD)
        assert times <= policy.revocations, f"{policy.name}: {times} alerts of {policy.revocations} revocations"
        if times < policy.revocations:
            return False
        if policy.state is not PolicyState.ACTIVE:
            return ended(policy, told)
        return policy not in self._compared() or matching(policy, told) is not None

    def _last(self, policy: Policy, told: list[Alert]) -> None:
        """See that an episode lasts as long as root keys stand as they do, and that there are no others."""
        pair = matching(policy, told)
        if pair is None:
            return  # it has changed since, and nobody has looked
        standing = [each for each in told if each.kind in STANDING]
        assert {Audience.CUSTOMER} >= {each.audience for each in standing}, standing
        opened = frozenset(each.id for each in standing if each.is_open)
        before = self._episodes.get(policy.name, Episodes())
        assert before.changes != policy.changes or before.open == opened, (policy, standing)
        topics = [each.topic for each in standing]
        assert all(topics.count(topic) <= policy.changes for topic in topics), (policy, standing)
        policy.known(pair)
        self._episodes[policy.name] = Episodes(policy.changes, opened)

    def _misfits(self, told: dict[str, list[Alert]]) -> str:
        wrong = [policy for policy in self.model.policies.values() if not self._fits(policy, told[policy.name])]
        return "\n".join(f"{policy}\nis told of by {told[policy.name]}" for policy in wrong)
