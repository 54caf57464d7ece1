"""Looks at root keys: what is about to end is told before it does, and what was told is over when it is."""

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select, update

from schemas.identifiers import PolicyState
from tests.integration.hearing import listed, looked
from twinlock.clock import ManualClock
from twinlock.custody.guards import Guards
from twinlock.custody.health.looking import KeyLooks, notice_of, read_expiries
from twinlock.custody.settings import CustodySettings, GuardSettings
from twinlock.keys.ports import KeyDescription, Outcome
from twinlock.store.tables.custody import root_keys
from twinlock.store.unit import Cause
from twinlock.vaults.software.memory import MemoryVault

if TYPE_CHECKING:
    from tests.integration.custody.conftest import Custody

MONTH, SIX_HOURS = timedelta(days=30), timedelta(hours=6).total_seconds()
OPEN = ("key-expiring", "a", "open", "customer")
OVER = ("key-expiring", "a", "resolved", "customer")


@dataclass
class Described(MemoryVault):
    """Describe keys otherwise than they are; with `newer` another version is the newest."""

    vault: MemoryVault
    changes: dict[tuple[str, str | None], dict[str, Any]] = field(default_factory=dict)
    newer: dict[str, str] = field(default_factory=dict)

    def of(self, _uri: str) -> "Described":
        """Be every vault."""
        return self

    async def describe(self, uri: str, version: str | None = None) -> KeyDescription:
        """Describe a version as the test says."""
        found = await self.vault.describe(uri)
        wanted = version or self.newer.get(uri, found.version)
        return replace(found, version=wanted, **self.changes.get((uri, wanted), {}))


@dataclass
class Scene:
    """Hold a policy's keys and whoever looks at them."""

    custody: "Custody"
    vault: Described
    looks: KeyLooks

    async def look(self) -> int:
        """Look at what is due, six hours later."""
        self.custody.clock.advance(SIX_HOURS)
        return await self.looks.look_due()


@pytest.fixture
async def scene(custody: "Custody", clock: ManualClock) -> Scene:
    await custody.policy("p")
    vault = Described(custody.vault)
    guards = Guards(clock, GuardSettings())
    return Scene(custody, vault, KeyLooks(custody.store, vault, guards, clock, CustodySettings()))


async def test_expiry(scene: Scene) -> None:
    """A key that expires within the time is told once, to the customer, and over when its date has moved."""
    custody, (uri, _) = scene.custody, scene.custody.roots("p")
    expires = custody.clock.now() + timedelta(days=31)
    scene.vault.changes[uri, "1"] = {"expires": expires}

    assert 2 == await scene.look()
    assert [] == await listed(custody.store)

    custody.clock.advance(86400)
    for _ in range(3):
        await scene.look()
        assert [OPEN] == await looked(custody.store)
    async with custody.store.read() as reader:
        assert expires in (await read_expiries(reader, "p")).values()

    scene.vault.changes.clear()
    await scene.look()

    assert [OVER] == await listed(custody.store)


async def test_version_disabled(scene: Scene) -> None:
    """The version that wraps the policy key is disabled and a newer one serves: told, and over after a refresh."""
    custody, (uri, _) = scene.custody, scene.custody.roots("p")
    scene.vault.newer[uri] = "2"
    scene.vault.changes[uri, "1"] = {"enabled": False}
    await scene.look()

    assert [OPEN] == await listed(custody.store)

    async with custody.store.begin(Cause("refresh")) as unit:
        await unit.execute(update(root_keys).where(root_keys.c.uri == uri).values(version="2"))

    assert 1 == await scene.looks.look_due()
    assert [OVER] == await listed(custody.store)


async def test_silence_says_nothing(scene: Scene) -> None:
    """A vault that does not answer changes nothing that is known, and is not asked again at once."""
    custody, (uri, _) = scene.custody, scene.custody.roots("p")
    scene.vault.changes[uri, "1"] = {"expires": custody.clock.now()}
    await scene.look()
    custody.hold("p", Outcome.UNAVAILABLE, Outcome.DENIED)

    assert (2, 0) == (await scene.look(), await scene.looks.look_due())
    assert [OPEN] == await looked(custody.store)


async def test_another_key(scene: Scene) -> None:
    """A key that was made again under the name is none of the policy's: what is told of it, probes tell."""
    (uri, _) = scene.custody.roots("p")
    scene.vault.changes[uri, "1"] = {"expires": scene.custody.clock.now(), "identity": "another"}
    await scene.look()

    assert [] == await listed(scene.custody.store)


async def test_known_by_the_version_in_use(scene: Scene) -> None:
    """A newer version that has a name of its own hides nothing of the one that the policy uses."""
    (uri, _) = scene.custody.roots("p")
    scene.vault.newer[uri] = "2"
    scene.vault.changes = {(uri, "1"): {"expires": scene.custody.clock.now()}, (uri, "2"): {"identity": "another"}}
    await scene.look()

    assert [OPEN] == await looked(scene.custody.store)


async def test_purged(scene: Scene) -> None:
    """Of a policy that is purged no key's end is of interest."""
    (uri, _) = scene.custody.roots("p")
    scene.vault.changes[uri, "1"] = {"expires": scene.custody.clock.now()}
    await scene.look()
    await listed(scene.custody.store)
    await scene.custody.set_state("p", PolicyState.PURGED)

    assert 0 == await scene.look()
    assert [OVER] == await looked(scene.custody.store)


async def test_notices(custody: "Custody", clock: ManualClock) -> None:
    """A notice is given of what uses the policy's version alone, and names date or version."""
    uri, _ = custody.roots(await custody.policy("p"))
    used = await custody.vault.describe(uri)
    now = clock.now()

    def notice(seconds: float | None, *, enabled: bool = True, newest: str = "1") -> str:
        expires = None if seconds is None else now + timedelta(seconds=seconds)
        newer = replace(used, version=newest)
        return notice_of(replace(used, expires=expires, enabled=enabled), newer, now, MONTH)

    month = MONTH.total_seconds()

    assert ["", "", ""] == [notice(None), notice(month + 1), notice(None, enabled=False)]
    assert "version 1 expires on" in notice(month)
    assert "version 1 has expired on" in notice(0)
    assert "version 1 is disabled and version 2 serves" in notice(None, enabled=False, newest="2")


async def test_every_key(custody: "Custody") -> None:
    """What a custodian does by itself looks at each key of every active policy once, however many there are."""
    for number in range(13):
        await custody.policy(f"p{number}")
    counts = [await custody.custodian.looks.look_due() for _ in range(3)]
    async with custody.store.read() as reader:
        keys = len(await reader.rows(select(root_keys.c.uri)))

    assert (keys, 0) == (sum(counts), counts[-1])
