"""What people import and read, and when they are refused."""

import asyncio
from pathlib import Path
from random import Random

from schemas.identifiers import PolicyState
from tests.model.containers import GEO, Content, Source, is_site, make
from tests.model.installation import patience
from tests.model.model import Expected
from tests.model.policies import Answer
from tests.model.world import World


class Reading(World):
    """Import and read, each held against the model."""

    def __init__(self, folder: Path, template: Path, order: Random) -> None:
        super().__init__(folder, template, order)
        self.sources: list[tuple[Path, Source]] = []
        self._wanted: dict[str, set[str]] = {}  # of every name: what comes late may find another container under it

    async def add(self, name: str) -> None:
        """Add a mailbox or a site; the sites of a geo go together."""
        await self.home.add(name)
        wanted = self._wanted.setdefault(GEO if is_site(name) else name, set())
        self.model.containers[name] = make(name, wanted)

    async def bring(self, name: str, mails: list[int], *, again: bool = False, killed: int | None = None) -> None:
        """Import a folder, or one that was imported somewhere before; perhaps everything is killed meanwhile."""
        await self.look()
        if name not in self.model.containers:
            await self.add(name)
        if not (again and self.sources):
            self.sources.append(await asyncio.to_thread(self.home.source, mails))
        folder, source = self.sources[-1]
        if killed is None:
            await self._imported(name, folder, source)
        else:
            self._told(name, source, await self.home.bring_killed(name, folder, killed))
            self.model.crashed()
        await self.look()

    async def _imported(self, name: str, folder: Path, source: Source) -> None:
        expected = await self._expected(name, fresh=False)
        acknowledged = await self.home.bring(name, folder)
        assert not acknowledged or expected is not Expected.REFUSED, f"{name} took what its keys refuse"
        self._told(name, source, acknowledged)
        async with patience(f"import into {name}, whose keys answer"):
            while expected is Expected.SERVED and not self.model.containers[name].has_all(source):
                self._told(name, source, await self.home.bring(name, folder))

    def _told(self, name: str, source: Source, acknowledged: bool) -> None:
        container = self.model.containers.get(name)
        if container is not None:
            container.told(source, acknowledged)

    async def read(self, name: str, *, fresh: bool) -> None:
        """Read a container as a person does."""
        expected = await self._expected(name, fresh=fresh)
        if name not in self.model.containers:
            return
        asked = self._asked_of(name)
        found = await self._found(name, fresh=fresh)
        if name not in self.model.containers or found == {}:
            return  # no key was needed
        if expected is Expected.SERVED and found is None:
            found = await self._served(name, fresh=fresh)
        if expected is Expected.REFUSED:
            assert found is None, f"{name} was served"
            await self._for_good(name, fresh=fresh)
        if expected is Expected.REFUSED_SOON and found is not None:
            await self._refused(name, fresh=fresh)
        self._heard(name, fresh and found is None)
        if found is not None and self._asked_of(name) > asked:
            self._stood_in(name)

    async def _found(self, name: str, *, fresh: bool) -> Content | None:
        found = await self.home.read(name, fresh=fresh)
        container = self.model.containers[name]
        if found == {}:
            await self.look()
            if self._may_be_gone(container):
                return None  # a purge has begun: it is not there any more, or only just
        assert found is None or container.holds(found), (container, found)
        if found is not None:
            container.saw(found)
        return found

    async def _served(self, name: str, *, fresh: bool) -> Content:
        async with patience(f"read of {name}, whose keys answer"):
            while (found := await self._found(name, fresh=fresh)) is None:
                await self.home.pass_time(3.0)
        return found

    async def _refused(self, name: str, *, fresh: bool) -> None:
        """Wait for a probe that is under way; the clock stands still."""
        async with patience(f"{name} is served beyond the bound"):
            while await self.home.read(name, fresh=fresh) is not None:
                await self.home.turns(20)

    async def _for_good(self, name: str, *, fresh: bool) -> None:
        """See that a read is refused for good, and not told to come again: on a busy machine its deadline may pass."""
        async with patience(f"{name} is put off and never refused"):
            while self.home.put_off:
                assert await self.home.read(name, fresh=fresh) is None, f"{name} was served"

    def _heard(self, name: str, refused: bool) -> None:
        policy = self.model.policies.get(self.model.containers[name].policy)
        if policy is not None and refused and policy.shut_since is not None and policy.state is PolicyState.ACTIVE:
            policy.heard = True

    def _stood_in(self, name: str) -> None:
        """Note that a person was served by the availability key, of which there has to be an alert then."""
        policy = self.model.policies.get(self.model.containers[name].policy)
        if policy is not None and Answer.OK not in self.model.answers(policy):
            policy.stood_in = True

    def _asked_of(self, name: str) -> int:
        policy = self.model.containers[name].policy
        return self.asked(policy) if policy in self.ids else 0

    async def _expected(self, name: str, *, fresh: bool) -> Expected:
        """Say what becomes of a read, where the container can't be put under another policy meanwhile."""
        await self.look()
        container = self.model.containers.get(name)
        if container is None:
            return Expected.REFUSED
        expected = {self.model.expects(each, fresh=fresh) for each in {container.policy, *container.wanted}}
        return expected.pop() if len(expected) == 1 else Expected.EITHER
