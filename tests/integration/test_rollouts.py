"""Rollouts: the sites of a geo onto another TIK, in any order, with crashes, every key open at every moment."""

import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import insert, select, update

from events.answers import read_answer
from schemas.facts import GeoCompleted, GeoProgressed
from schemas.identifiers import GeoState, RequestOutcome
from schemas.names import SITE_REENCRYPTOR
from schemas.requests import AssignmentRequested, RefreshRequested
from twinlock.content import containers as content
from twinlock.content import generations
from twinlock.crashpoints import CrashPoint
from twinlock.custody.errors import GenerationGone
from twinlock.custody.port import USER, Asker, ContainerRef
from twinlock.store.tables.content import container_keys, containers, files
from twinlock.store.tables.custody import policies, policy_keys, root_keys
from twinlock.store.tables.tenants import tenants
from twinlock.store.tables.work import assignment_outcomes, geos, jobs
from twinlock.store.unit import Cause
from workers import wakeups
from workers.site_reencryptor.standing import GeoStanding, Standing, overall, standings

if TYPE_CHECKING:
    from tests.integration.conftest import Pump, World

CAUSE = Cause("test")
ASKER = Asker(USER, CAUSE)
DONE, REFUSED = RequestOutcome.DONE, RequestOutcome.REFUSED
SERVICE, EU, US = "sites-policy", "sites-eu", "sites-us"
OTHER = "sites-eu-2"


@pytest.fixture
async def site_policies(world: "World") -> None:
    """Have site policies beside the provider's own: acme's for two geos, for one of them twice."""
    made = ((EU, "acme", "eu"), (OTHER, "acme", "eu"), (US, "acme", "us"))
    for policy, tenant, geo in made:
        await _policy(world, policy, tenant, geo)


async def _policy(world: "World", policy: str, tenant: str, geo: str) -> None:
    row: dict[str, Any] = {"id": policy, "tenant_id": tenant, "name": policy, "workload": "site", "geo": geo}
    row |= {"mode": "recovery-only", "state": "active", "health": "healthy", "newest_generation": 1, "version": 1}
    async with world.store.begin(CAUSE) as unit:
        now = unit.clock.now()
        await unit.execute(insert(policies).values(created_at=now, **row))
        key = {"policy_id": policy, "generation": 1, "commitment": bytes(32)}
        await unit.execute(insert(policy_keys).values(created_at=now, **key))
        for slot in ("a", "b"):
            root = {"policy_id": policy, "slot": slot, "uri": f"memory://{slot}/key", "identity": "x", "version": "1"}
            await unit.execute(insert(root_keys).values(root))


async def add_sites(world: "World", geo: str, *names: str, policy: str = SERVICE) -> list[ContainerRef]:
    """Add sites as content does: under a policy, with their first key."""
    refs = [ContainerRef("acme", name, 1) for name in names]
    made = await world.custodian.make_container_keys(refs, policy, ASKER)
    async with world.store.begin(CAUSE) as unit:
        for key in made:
            await unit.execute(insert(containers).values(_site(world, key.ref.container_id, geo, policy)))
            await generations.add_generation(unit, key)
    return refs


def _site(world: "World", name: str, geo: str, policy: str) -> dict[str, Any]:
    row: dict[str, Any] = {"id": name, "tenant_id": "acme", "workload": "site", "name": f"acme/{name}", "kind": "site"}
    row |= {"licensed": True, "geo": geo, "policy_id": policy, "newest_generation": 1, "version": 1}
    return row | {"created_at": world.clock.now()}


async def keep_content(world: "World") -> None:
    """Have something under every live key, so that none is destroyed: a file's row needs no blob here."""
    async with world.store.begin(CAUSE) as unit:
        keys = await unit.rows(select(container_keys.c.container_id, container_keys.c.generation))
        for key in keys:
            row: dict[str, Any] = {"container_id": key.container_id, "generation": key.generation, "version": 1}
            row |= {"id": f"file-{key.generation}", "path": b"a%d" % key.generation, "size": 1, "wrapped_key": b"k"}
            row |= {"content_mac": bytes(32), "object_name": "o", "created_at": unit.clock.now()}
            await unit.execute(insert(files).values(row))
        await unit.execute(update(container_keys).values(item_count=1))


async def wraps(world: "World", *names: str) -> set[tuple[str, int]]:
    """Return what the keys of sites are wrapped by."""
    key = container_keys.c
    async with world.store.read() as reader:
        rows = await reader.rows(select(key.policy_id, key.policy_key_generation).where(key.container_id.in_(names)))
    return {(row.policy_id, row.policy_key_generation) for row in rows}


async def geo_rows(world: "World") -> dict[str, tuple[str, str]]:
    """Return every geo's policy and state."""
    async with world.store.read() as reader:
        return {row.geo: (row.policy_id, row.state) for row in await reader.rows(select(geos))}


async def rejected(world: "World") -> Mapping[str, str]:
    """Return what was rejected, with the reasons."""
    async with world.store.read() as reader:
        rows = await reader.rows(select(assignment_outcomes).where(assignment_outcomes.c.outcome == "rejected"))
    return {row.container: row.reason for row in rows}


async def settled(world: "World", pump: "Pump") -> None:
    """Run until what was put off had its turn again."""
    for _ in range(3):
        await pump.run()
        world.clock.advance(301)
        await wakeups.reconcile(world.store, SITE_REENCRYPTOR, 900)
    await pump.run()


NAMES = [f"s{number}" for number in range(8)]
pytestmark = pytest.mark.usefixtures("site_policies")


async def test_registration(world: "World", pump: "Pump") -> None:
    """A geo's sites are rewrapped onto its TIK, a batch at a time, each with a new key for new blobs."""
    await add_sites(world, "eu", *NAMES)
    await add_sites(world, "us", "elsewhere")
    await keep_content(world)
    outcome, said, _ = await pump.ask(AssignmentRequested(policy=EU, geos=("eu",)))
    async with world.store.read() as reader:
        sites = await content.load_all(reader, NAMES)

    assert (DONE, 8, 0) == (outcome, said["assigned"], said["rejected"])
    assert {(EU, 1)} == await wraps(world, *NAMES)
    assert [[1, 2]] * 8 == [sorted(site.live) for site in sites]
    assert [EU] * 8 == [site.policy_id for site in sites]
    assert {(SERVICE, 1)} == await wraps(world, "elsewhere")
    assert {"eu": (EU, "registered")} == await geo_rows(world)
    assert [(8, 0)] == [(event.sites, event.rejected) for event in pump.seen if isinstance(event, GeoCompleted)]
    assert await pump.at_rest()


async def test_empty_keys_are_destroyed(world: "World", pump: "Pump") -> None:
    """A site without files has one key afterwards, the new one."""
    await add_sites(world, "eu", "s0")
    await pump.ask(AssignmentRequested(policy=EU, geos=("eu",)))
    async with world.store.read() as reader:
        (site,) = await content.load_all(reader, ["s0"])

    assert frozenset({2}) == site.live


async def test_again_and_without_sites(world: "World", pump: "Pump") -> None:
    """An assignment that was made already counts its sites again; a geo may be registered before it has any."""
    await add_sites(world, "eu", *NAMES)
    first = await pump.ask(AssignmentRequested(policy=EU, geos=("eu",)))
    again = await pump.ask(AssignmentRequested(policy=EU, all_geos=True))
    empty = await pump.ask(AssignmentRequested(policy=US, geos=("us",)))

    assert [8, 8, 0] == [said["assigned"] for _, said, _ in (first, again, empty)]
    assert {"eu": (EU, "registered"), "us": (US, "registered")} == await geo_rows(world)


async def test_revert_of_all_geos(world: "World", pump: "Pump") -> None:
    """A revert of all geos is answered once, when the last geo is done, and none is registered any more."""
    await add_sites(world, "eu", "s0", "s1")
    await add_sites(world, "us", "s2")
    await pump.ask(AssignmentRequested(policy=EU, geos=("eu",)))
    await pump.ask(AssignmentRequested(policy=US, geos=("us",)))
    outcome, said, _ = await pump.ask(AssignmentRequested(policy="service", tenant="acme", all_geos=True))

    assert (DONE, 3, 0) == (outcome, said["assigned"], said["rejected"])
    assert {(SERVICE, 1)} == await wraps(world, "s0", "s1", "s2")
    assert {} == await geo_rows(world)
    assert await pump.at_rest()


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"policy": EU, "geos": ("us",)}, "is for geo eu, not for us"),
        ({"policy": "policy-p", "geos": ("eu",)}, "is for mailboxes, not for sites"),
        ({"policy": EU, "all_mailboxes": True}, "is for sites, not for mailboxes"),
        ({"policy": "service", "all_geos": True}, "whose sites are to be reverted"),
        ({"policy": EU, "geos": ("eu",), "tenant": "provider"}, "belongs to tenant acme"),
        ({"policy": "service", "tenant": "acme", "all_geos": True}, "there is no site"),
    ],
)
async def test_not_eligible(world: "World", pump: "Pump", wanted: dict[str, Any], said: str) -> None:
    """A policy takes the sites of its own workload, tenant and geo; all else is refused as a whole, with the reason."""
    outcome, _, detail = await pump.ask(AssignmentRequested(**wanted))

    assert REFUSED == outcome
    assert said in detail
    assert {} == await geo_rows(world)


async def test_trial_tenant(world: "World", pump: "Pump") -> None:
    """A trial tenant's geos get no customer policy."""
    async with world.store.begin(CAUSE) as unit:
        await unit.execute(update(tenants).where(tenants.c.name == "acme").values(trial=True))
    outcome, _, detail = await pump.ask(AssignmentRequested(policy=EU, geos=("eu",)))

    assert REFUSED == outcome
    assert "trial tenant" in detail


async def test_refused_keys_reject(world: "World", pump: "Pump") -> None:
    """law 6: sites whose policy's root keys are refused stay where they are, and so does their geo."""
    await add_sites(world, "eu", *NAMES)
    await pump.ask(AssignmentRequested(policy=EU, geos=("eu",)))
    world.custodian.refusing.add(EU)
    outcome, said, _ = await pump.ask(AssignmentRequested(policy=OTHER, geos=("eu",)))

    assert (REFUSED, 0, 8) == (outcome, said["assigned"], said["rejected"])
    assert "denied" in (await rejected(world))["acme/s0"]
    assert {(EU, 1)} == await wraps(world, *NAMES)
    assert {"eu": (EU, "registered")} == await geo_rows(world)


async def test_damaged_key_rejects_one(world: "World", pump: "Pump") -> None:
    """A site key that was moved from another row rejects its own site alone."""
    await add_sites(world, "eu", *NAMES)
    async with world.store.begin(CAUSE) as unit:
        key = container_keys.c
        moved = await unit.scalar(select(key.wrapped).where(key.container_id == "s1"))
        await unit.execute(update(container_keys).where(key.container_id == "s4").values(wrapped=moved))
    outcome, said, _ = await pump.ask(AssignmentRequested(policy=EU, geos=("eu",)))

    assert (DONE, 7, 1) == (outcome, said["assigned"], said["rejected"])
    assert ["acme/s4"] == list(await rejected(world))
    assert await pump.at_rest()


async def test_site_added_meanwhile(world: "World", pump: "Pump") -> None:
    """A site that a late writer stored under the older TIK, behind the cursor, is found before the rollout ends."""
    await add_sites(world, "eu", *NAMES)
    await pump.publisher.request(AssignmentRequested(policy=EU, geos=("eu",)))
    for _ in range(3):
        await pump.step()
    assert {"eu": (EU, "registering")} == await geo_rows(world)
    await add_sites(world, "eu", "a-late-one")
    await settled(world, pump)

    assert {(EU, 1)} == await wraps(world, "a-late-one", *NAMES)
    assert {"eu": (EU, "registered")} == await geo_rows(world)


async def test_another_policy_takes_over(world: "World", pump: "Pump") -> None:
    """law 12: a second assignment gives the geo's one job a new target; both requests are answered."""
    await add_sites(world, "eu", *NAMES)
    first = await pump.publisher.request(AssignmentRequested(policy=EU, geos=("eu",)))
    for _ in range(2):
        await pump.step()
    outcome, said, _ = await pump.ask(AssignmentRequested(policy=OTHER, geos=("eu",)))
    async with world.store.read() as reader:
        replaced = await read_answer(reader, world.store.source, first)

    assert replaced is not None
    assert 1 == replaced.answer["rejected"]
    assert "took its place" in (await rejected(world))["eu"]
    assert (DONE, 8) == (outcome, said["assigned"])
    assert {(OTHER, 1)} == await wraps(world, *NAMES)
    assert {"eu": (OTHER, "registered")} == await geo_rows(world)
    assert await pump.at_rest()


async def test_roll(world: "World", pump: "Pump") -> None:
    """A new TIK of a policy brings its sites along, and the old one is destroyed when nothing is under it."""
    await add_sites(world, "eu", *NAMES)
    await keep_content(world)
    await pump.ask(AssignmentRequested(policy=EU, geos=("eu",)))
    await pump.publisher.request(RefreshRequested(policy=EU, new_policy_key=True))
    await pump.step()
    assert {"eu": (EU, "rolling")} == await geo_rows(world)
    await pump.run()
    async with world.store.read() as reader:
        left = await reader.rows(select(policy_keys.c.generation).where(policy_keys.c.policy_id == EU))

    assert {(EU, 2)} == await wraps(world, *NAMES)
    assert [(2,)] == [tuple(row) for row in left]
    assert {"eu": (EU, "registered")} == await geo_rows(world)
    assert await pump.at_rest()


async def test_rotated_root_key(world: "World", pump: "Pump") -> None:
    """A root key that was rotated has the TIK rewrapped, and no site: nothing is rolled out."""
    await add_sites(world, "eu", *NAMES)
    await pump.ask(AssignmentRequested(policy=EU, geos=("eu",)))
    pump.seen.clear()
    before = await _stored_keys(world)
    outcome, _, _ = await pump.ask(RefreshRequested(policy=EU))

    assert DONE == outcome
    assert before == await _stored_keys(world)
    assert {"eu": (EU, "registered")} == await geo_rows(world)
    assert [] == [event for event in pump.seen if isinstance(event, GeoProgressed | GeoCompleted)]
    assert await pump.at_rest()


async def _stored_keys(world: "World") -> list[bytes]:
    async with world.store.read() as reader:
        return [row.wrapped for row in await reader.rows(select(container_keys).order_by("container_id"))]


async def test_roll_waits_for_keys(world: "World", pump: "Pump") -> None:
    """law 12: while keys are refused a roll is put off, never rejected, and ends by itself when they answer."""
    await add_sites(world, "eu", *NAMES, policy=EU)
    await pump.publisher.request(RefreshRequested(policy=EU, new_policy_key=True))
    await pump.step()
    world.custodian.refusing.add(EU)
    await settled(world, pump)
    async with world.store.read() as reader:
        assert "denied" in await reader.scalar(select(jobs.c.trouble))
    world.custodian.refusing.clear()
    await settled(world, pump)

    assert {(EU, 2)} == await wraps(world, *NAMES)
    assert await pump.at_rest()


async def test_progress(world: "World", pump: "Pump") -> None:
    """law 12: progress is told at most once a second, with counts."""
    await add_sites(world, "eu", *NAMES)
    await pump.publisher.request(AssignmentRequested(policy=EU, geos=("eu",)))
    while await pump.step():
        world.clock.advance(1.1)
    told = [event for event in pump.seen if isinstance(event, GeoProgressed)]

    assert [(3, 8), (6, 8)] == [(event.sites_done, event.sites) for event in told]


async def standing(world: "World") -> tuple[list[GeoStanding], Standing]:
    """Return how far acme's geos are, and all of them together."""
    async with world.store.read() as reader:
        found = await standings(reader, "acme", world.clock.now())
    return found, overall(found)


async def test_standing(world: "World", pump: "Pump") -> None:
    """How far a geo is counts sites, with the time left at its rate so far; a tenant is as far as its geos together."""
    await add_sites(world, "eu", *NAMES)
    await add_sites(world, "us", "elsewhere", "there")
    assert ([], Standing(GeoState.UNREGISTERED, 10, 0)) == (
        [each for each in (await standing(world))[0] if each.policy],
        (await standing(world))[1],
    )
    await pump.publisher.request(AssignmentRequested(policy=EU, geos=("eu",)))
    await pump.step()
    world.clock.advance(6)
    await pump.step()
    (eu, us), whole = await standing(world)
    assert (GeoState.REGISTERING, 8, 3, 37.5, 10) == (eu.state, eu.sites, eu.sites_done, eu.percent, eu.seconds_left)
    assert (GeoState.UNREGISTERED, 2, 0, 0.0) == (us.state, us.sites, us.sites_done, us.percent)
    assert (GeoState.REGISTERING, 10, 3) == (whole.state, whole.sites, whole.sites_done)
    await pump.run()
    (eu, _us), whole = await standing(world)

    assert (GeoState.REGISTERED, 100.0, None, EU) == (eu.state, eu.percent, eu.seconds_left, eu.policy)
    assert (GeoState.UNREGISTERED, 80.0) == (whole.state, whole.percent)


@pytest.mark.parametrize("seed", range(4))
async def test_any_order_any_copies(world: "World", pump: "Pump", seed: int) -> None:
    """law 11: shuffled and duplicated deliveries end in one of the two policies, whole, and both are answered."""
    chance = random.Random(seed)  # noqa: S311  # an order, not a secret
    pump.copies = 2
    pump.choose = lambda rows: chance.randrange(len(rows))
    await add_sites(world, "eu", *NAMES)
    await keep_content(world)
    for policy in (EU, OTHER):
        await pump.publisher.request(AssignmentRequested(policy=policy, geos=("eu",)))
    await settled(world, pump)

    found = await wraps(world, *NAMES)
    assert found in ({(EU, 1)}, {(OTHER, 1)})
    assert {"eu": (*(policy for policy, _ in found), "registered")} == await geo_rows(world)
    assert await pump.at_rest()


@pytest.mark.parametrize("point", [CrashPoint.AFTER_CLAIM, CrashPoint.BEFORE_COMMIT, CrashPoint.AFTER_COMMIT])
@pytest.mark.parametrize("at", [1, 3])
async def test_killed_at_any_step(world: "World", pump: "Pump", point: CrashPoint, at: int) -> None:
    """A re-encryptor killed at any point of any step leaves nothing half done, and another one ends its work."""
    await add_sites(world, "eu", *NAMES)
    await keep_content(world)
    await pump.publisher.request(AssignmentRequested(policy=EU, geos=("eu",)))
    for _ in range(at):
        await pump.step()
    await pump.killed(point)
    world.clock.advance(901)
    await settled(world, pump)
    await settled(world, pump)

    assert {(EU, 1)} == await wraps(world, *NAMES)
    assert {"eu": (EU, GeoState.REGISTERED)} == await geo_rows(world)


class Looking:
    """Be a custodian at which every key is opened before each of its steps, and by whoever calls `look`."""

    def __init__(self, world: "World", refs: Sequence[ContainerRef], was: Sequence[bytes]) -> None:
        self.reads = 0
        self._world = world
        self._expected = dict(zip(refs, was, strict=True))
        self._rewrap, self._make = world.custodian.rewrap_containers, world.custodian.make_container_keys

    async def look(self) -> None:
        """Open every key; it has to be the one that it was."""
        for ref, commitment in self._expected.items():
            assert commitment == await _commitment(self._world, ref)
            self.reads += 1

    async def rewrap_containers(self, *args: Any) -> Any:
        """Look, then rewrap."""
        await self.look()
        return await self._rewrap(*args)

    async def make_container_keys(self, *args: Any) -> Any:
        """Look, then make."""
        await self.look()
        return await self._make(*args)


async def test_reads_at_every_moment_of_a_roll(world: "World", pump: "Pump", monkeypatch: pytest.MonkeyPatch) -> None:
    """Before and after every commit of a roll, also a killed one's, every key opens and is the one that it was."""
    refs = await add_sites(world, "eu", *NAMES, policy=EU)
    await keep_content(world)
    looking = Looking(world, refs, [await _commitment(world, ref) for ref in refs])
    for name in ("rewrap_containers", "make_container_keys"):
        monkeypatch.setattr(world.custodian, name, getattr(looking, name))
    await pump.publisher.request(RefreshRequested(policy=EU, new_policy_key=True))
    for number in range(30):
        await (pump.step_killed() if number % 3 == 2 else pump.step())
        await looking.look()
        if number % 4 == 0:
            world.clock.advance(901)
            await wakeups.reconcile(world.store, SITE_REENCRYPTOR, 900)

    assert {(EU, 2)} == await wraps(world, *NAMES)
    assert looking.reads > 30 * len(refs)


async def _commitment(world: "World", ref: ContainerRef) -> bytes:
    for _ in range(2):
        try:
            opened = await world.custodian.open_container_key(ref, ASKER)
        except GenerationGone:
            continue
        return opened.key.commitment()
    raise AssertionError("a key with a file under it is gone")
