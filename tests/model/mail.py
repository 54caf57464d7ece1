"""People's mail: what they import and read, and when they are refused."""

import asyncio
from collections import Counter
from pathlib import Path
from random import Random

from schemas.identifiers import PolicyState
from tests.integration.one_process.staff import PATIENCE
from tests.model.model import Box, Expected
from tests.model.world import World


class Mail(World):
    """Import and read, each held against the model."""

    def __init__(self, folder: Path, template: Path, order: Random) -> None:
        super().__init__(folder, template, order)
        self.sources: list[tuple[Path, Counter[bytes]]] = []
        self._wanted: dict[str, set[str]] = {}  # of every name: what comes late may find another mailbox under it

    async def add(self, address: str) -> None:
        """Add a mailbox."""
        await self.home.add_box(address)
        self.model.boxes[address] = Box(address, wanted=self._wanted.setdefault(address, set()))

    async def bring(self, address: str, mails: list[int], *, again: bool = False, killed: int | None = None) -> None:
        """Import a folder, or one that was imported somewhere before; perhaps everything is killed meanwhile."""
        await self.look()
        if address not in self.model.boxes:
            await self.add(address)
        if not (again and self.sources):
            self.sources.append(await asyncio.to_thread(self.home.source, mails))
        folder, bodies = self.sources[-1]
        if killed is None:
            await self._imported(address, folder, bodies)
        else:
            self._told(address, bodies, await self.home.bring_killed(address, folder, killed))
        await self.look()

    async def _imported(self, address: str, folder: Path, bodies: Counter[bytes]) -> None:
        must = await self._expected(address, fresh=False) is Expected.SERVED
        self._told(address, bodies, await self.home.bring(address, folder))
        async with asyncio.timeout(PATIENCE):
            while must and not bodies <= self.model.boxes[address].acknowledged:
                self._told(address, bodies, await self.home.bring(address, folder))

    def _told(self, address: str, bodies: Counter[bytes], acknowledged: bool) -> None:
        box = self.model.boxes.get(address)
        if box is None:
            return
        box.besides |= bodies
        if acknowledged:
            box.acknowledged |= bodies

    async def read(self, address: str, *, fresh: bool) -> None:
        """Read a mailbox as a person does."""
        expected = await self._expected(address, fresh=fresh)
        if address not in self.model.boxes:
            return
        found = await self.home.read(address, fresh=fresh)
        assert found is None or self.model.boxes[address].holds(found), (address, found)
        if expected is Expected.SERVED and found is None:
            await self._served(address, fresh=fresh)
        if expected is Expected.REFUSED:
            assert found is None, f"{address} was served"
        if expected is Expected.REFUSED_SOON and found is not None:
            await self._refused(address, fresh=fresh)
        self._heard(address, fresh and found is None)

    async def _served(self, address: str, *, fresh: bool) -> None:
        async with asyncio.timeout(PATIENCE):
            while (found := await self.home.read(address, fresh=fresh)) is None:
                await self.home.pass_time(3.0)
        assert self.model.boxes[address].holds(found), (address, found)

    async def _refused(self, address: str, *, fresh: bool) -> None:
        """Wait for a probe that is under way; the clock stands still."""
        async with asyncio.timeout(PATIENCE):
            while await self.home.read(address, fresh=fresh) is not None:
                await self.home.turns(20)

    def _heard(self, address: str, refused: bool) -> None:
        policy = self.model.policies.get(self.model.boxes[address].policy)
        if policy is not None and refused and policy.shut_since is not None and policy.state is PolicyState.ACTIVE:
            policy.heard = True

    async def _expected(self, address: str, *, fresh: bool) -> Expected:
        """Say what becomes of a read, where the mailbox can't be put under another policy meanwhile."""
        await self.look()
        box = self.model.boxes.get(address)
        if box is None:
            return Expected.REFUSED
        expected = {self.model.expects(name, fresh=fresh) for name in {box.policy, *box.wanted}}
        return expected.pop() if len(expected) == 1 else Expected.EITHER

    async def alerts_fit(self, name: str) -> None:
        """See that an open alert says that a policy is unhealthy, once its keys were asked, or that none does."""
        policy = self.model.policies[name]
        box = next((box for box in self.model.boxes.values() if box.policy == name and not box.wanted - {name}), None)
        if policy.state is not PolicyState.ACTIVE or box is None:
            return
        await self.home.until(lambda: self._alert_fits(box, self.model.unhealthy(policy)))
        await self.look()

    async def _alert_fits(self, box: Box, expected: bool) -> bool:
        await self.read(box.address, fresh=True)
        return await self.is_told(box.policy) is expected
