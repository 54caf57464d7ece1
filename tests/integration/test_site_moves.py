"""Sites with files: moved to a new key, and read at every moment of a roll of their TIK."""

import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import insert, select, update

from schemas.event import Event
from schemas.facts import AlertRaised, SiteReencrypted
from schemas.identifiers import RequestOutcome
from schemas.names import SITE_REENCRYPTOR
from schemas.requests import AssignmentRequested, RefreshRequested, SiteMoveRequested
from twinlock.custody.errors import CustodianSilent
from twinlock.custody.port import USER, Asker, ContainerRef, OpenedKey
from twinlock.store.tables.content import container_keys, files
from twinlock.store.tables.custody import root_keys
from twinlock.store.tables.work import jobs
from twinlock.store.unit import Cause
from workers import wakeups

if TYPE_CHECKING:
    from tests.integration.conftest import Pump, World

CAUSE = Cause("test")
ASKER = Asker(USER, CAUSE)
DONE, REFUSED = RequestOutcome.DONE, RequestOutcome.REFUSED
EUROPE = "policy-europe"
BODIES = {f"f{number}": bytes([number]) * (number * 7000) for number in range(12)}
TREE = {name.encode(): body for name, body in BODIES.items()}
MOVE = SiteMoveRequested(tenant="acme", site="plans")


@pytest.fixture
async def site(world: "World") -> str:
    """Return a site with files and an empty folder; its geo's policy has root keys."""
    async with world.store.begin(CAUSE) as unit:
        for slot in ("a", "b"):
            root = {"policy_id": EUROPE, "slot": slot, "uri": f"memory://{slot}/key", "identity": "x", "version": "1"}
            await unit.execute(insert(root_keys).values(root))
    return await world.site("plans", **BODIES)


async def generations(world: "World") -> list[tuple[int, str, int, int]]:
    """Return the site's keys, with what wraps them and how many files they have."""
    key = container_keys.c
    query = select(key.generation, key.policy_id, key.policy_key_generation, key.item_count)
    async with world.store.read() as reader:
        return [tuple(row) for row in await reader.rows(query.order_by(key.generation))]


async def test_move(world: "World", pump: "Pump", site: str) -> None:
    """A move brings every blob under a new site key, byte for byte, and destroys the old key."""
    outcome, said, _ = await pump.ask(MOVE)

    assert (DONE, {"files": 12}) == (outcome, dict(said))
    assert [(2, "sites-policy", 1, 12)] == await generations(world)
    assert TREE == await world.tree(site)
    assert [("plans", 12)] == [(told.site, told.files) for told in pump.seen if isinstance(told, SiteReencrypted)]


async def test_move_of_what_is_not_there(world: "World", pump: "Pump") -> None:
    """A site that is not there is told, and so is one whose keys are refused; an empty one is done at once."""
    nowhere = await pump.ask(MOVE)
    await world.site("plans")
    empty = await pump.ask(MOVE)
    world.custodian.refusing.add("sites-policy")
    refused = await pump.ask(MOVE)

    assert [REFUSED, DONE, REFUSED] == [outcome for outcome, _, _ in (nowhere, empty, refused)]
    assert "there is no site acme/plans" in nowhere[2]
    assert {"files": 0} == dict(empty[1])


async def test_rollout_in_the_middle_of_a_move(world: "World", pump: "Pump", site: str) -> None:
    """law 12: a site that gets a new TIK while it is moved ends whole, under keys of that TIK alone."""
    await pump.publisher.request(MOVE)
    await pump.step()
    pump.choose = lambda rows: len(rows) - 1  # so that the assignment overtakes what the move set off
    outcome, said, _ = await pump.ask(AssignmentRequested(policy=EUROPE, geos=("EUR",)))

    assert (DONE, 1) == (outcome, said["assigned"])
    assert [(3, EUROPE, 1, 12)] == await generations(world)
    assert TREE == await world.tree(site)


async def test_move_in_the_middle_of_a_roll(
    world: "World", pump: "Pump", site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A move does not wait for a new TIK that gets no answer: the roll finds nothing left to bring along."""
    await pump.ask(AssignmentRequested(policy=EUROPE, geos=("EUR",)))

    async def _silent(*args: object) -> None:
        raise CustodianSilent

    monkeypatch.setattr(world.custodian, "rewrap_containers", _silent)
    await pump.publisher.request(RefreshRequested(policy=EUROPE, new_policy_key=True))
    await pump.run()
    outcome, said, _ = await pump.ask(MOVE)
    await _resume(world)
    await pump.run()

    assert (DONE, {"files": 12}) == (outcome, dict(said))
    assert [(3, EUROPE, 2, 12)] == await generations(world)
    assert TREE == await world.tree(site)
    assert await pump.at_rest()


@pytest.mark.parametrize("wanted", [MOVE, AssignmentRequested(policy=EUROPE, geos=("EUR",))])
@pytest.mark.parametrize("steps", [1, 3])
async def test_removed_in_the_middle(world: "World", pump: "Pump", site: str, wanted: Event, steps: int) -> None:
    """A site that is removed while it is moved, or its geo is brought under a policy, leaves no row and no work."""
    await pump.publisher.request(wanted)
    for _ in range(steps):
        await pump.step()
    assert 12 == await world.sites.remove(site, CAUSE)
    await pump.run()
    await _resume(world)
    await pump.run()

    assert [] == await generations(world)
    assert await pump.at_rest()


async def test_damaged_file_waits(world: "World", pump: "Pump", site: str) -> None:
    """A file that does not decrypt is told to engineering once, stops no other, and the job waits for help."""
    async with world.store.begin(CAUSE) as unit:
        wrapped = await unit.scalar(select(files.c.wrapped_key).where(files.c.path == b"f1"))
        await unit.execute(update(files).where(files.c.path == b"f2").values(wrapped_key=wrapped))
    await pump.publisher.request(MOVE)
    for _ in range(3):
        await pump.run()
        world.clock.advance(301)
        await wakeups.reconcile(world.store, SITE_REENCRYPTOR, 900)

    assert ["corrupt-file"] == [told.kind for told in pump.seen if isinstance(told, AlertRaised)]
    assert [1, 11] == [count for _, _, _, count in await generations(world)]
    async with world.store.read() as reader:
        assert "do not decrypt" in await reader.scalar(select(jobs.c.trouble))


EVERYTHING = (
    AssignmentRequested(policy=EUROPE, geos=("EUR",)),
    RefreshRequested(policy=EUROPE, new_policy_key=True),
    MOVE,
)


async def test_reads_at_every_moment(world: "World", pump: "Pump", site: str) -> None:
    """Every file reads right between any two commits of a registration, a roll and a move, also of killed ones."""
    for request in EVERYTHING:
        await pump.publisher.request(request)
        for number in range(9):
            await (pump.step_killed() if number % 3 == 1 else pump.step())
            assert TREE == await world.tree(site)
            await _resume(world)
        await pump.run()

    assert TREE == await world.tree(site)
    assert [(EUROPE, 2, 12)] == [(policy, key, count) for _, policy, key, count in await generations(world)]


class Meanwhile:
    """Have something happen in the midst of each read: before and after its key is opened, when its row was read."""

    def __init__(self, world: "World", patch: pytest.MonkeyPatch, happens: Callable[[], Awaitable[None]]) -> None:
        self.moments = 0
        self._happens = happens
        self._open = world.custodian.open_container_key
        patch.setattr(world.custodian, "open_container_key", self.open)

    async def open(self, ref: ContainerRef, asker: Asker) -> OpenedKey:
        """Open a key; a worker's own call is left alone."""
        if asker.initiator != USER:
            return await self._open(ref, asker)
        await self._moment()
        opened = await self._open(ref, asker)
        await self._moment()
        return opened

    async def _moment(self) -> None:
        self.moments += 1
        await self._happens()


@pytest.mark.parametrize("every", [1, 3])
async def test_reads_across_commits(
    world: "World", pump: "Pump", site: str, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """law 3: a read that began before any commit of a registration, a roll or a move, also a killed one's, ends right.

    Old objects are swept at once: nothing is left of what the reader had found.
    """

    async def happens() -> None:
        if meanwhile.moments % every == 0:
            await (pump.step_killed() if meanwhile.moments % 7 == 0 else pump.step())
            await world.sweeper.sweep(CAUSE)

    world.settings = replace(world.settings, objects_keep=0.0)
    meanwhile = Meanwhile(world, monkeypatch, happens)
    for request in EVERYTHING:
        await pump.publisher.request(request)
        for _ in range(9):
            assert TREE == await world.tree(site)
            await _resume(world)

        assert await pump.at_rest()

    assert [(EUROPE, 2, 12)] == [(policy, key, count) for _, policy, key, count in await generations(world)]


async def test_long_read_across_requests(world: "World", pump: "Pump", site: str) -> None:
    """law 3: a read whose first chunk was handed out before a registration, a roll or a move ends right after it."""
    body = os.urandom(5 << 20)
    await world.put_file(site, b"long", body)
    for request in EVERYTHING:
        chunks = world.files.get(site, b"long", ASKER)
        read = [await anext(chunks)]
        outcome, _, _ = await pump.ask(request)
        read += [chunk async for chunk in chunks]

        assert DONE == outcome
        assert len(read) > 2
        assert body == b"".join(read)


async def _resume(world: "World") -> None:
    """Let leases of killed processes lapse."""
    world.clock.advance(901)
    await wakeups.reconcile(world.store, SITE_REENCRYPTOR, 900)
