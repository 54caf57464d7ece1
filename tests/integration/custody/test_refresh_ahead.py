"""Refresh ahead: how long policy keys live, when they are unwrapped again, and who hears of it where that fails."""

from typing import TYPE_CHECKING

import pytest

from schemas.identifiers import AvailabilityMode, Workload
from twinlock.custody.errors import KeyRefused
from twinlock.custody.fate import bound_seconds
from twinlock.custody.port import ContainerRef
from twinlock.keys.ports import Denied, Outcome

if TYPE_CHECKING:
    from tests.integration.custody.conftest import Custody

OK, UNAVAILABLE, DENIED = Outcome.OK, Outcome.UNAVAILABLE, Outcome.DENIED
INEXACT = Denied("permission denied", uri="", raw="403", classifier="test/1", exact=False)
HOUR = 3600.0


async def site(custody: "Custody", name: str = "p") -> ContainerRef:
    """Make a site and open it, so that its TIK is cached."""
    policy = await custody.policy(name, AvailabilityMode.RECOVERY_ONLY, Workload.SITE)
    ref = await custody.container(policy, name, Workload.SITE)
    await custody.open(ref)
    return ref


def expiries(custody: "Custody") -> list[float]:
    """Return when each cached key expires, in hours."""
    return [line.expires / HOUR for line in custody.custodian.cached()]


async def to(custody: "Custody", hours: float, *, minutes: int = 10) -> None:
    """Move on to a time of day, with a look at what is due every few minutes."""
    while custody.clock.monotonic() < hours * HOUR:
        custody.clock.advance(min(60.0 * minutes, hours * HOUR - custody.clock.monotonic()))
        await custody.custodian.ahead.refresh_due()


async def test_life(custody: "Custody") -> None:
    """A TIK lives for 24 hours, a DEP key for 10 minutes."""
    await site(custody)
    await custody.open(await custody.container(await custody.policy("q"), "box"))
    await custody.open(ContainerRef("acme", "p", 1))

    assert [24.0, 1 / 6] == expiries(custody)


async def test_renewed_in_the_window(custody: "Custody") -> None:
    """A TIK is unwrapped again once, within the window and its jitter, by both root keys, and lives for a day more."""
    await site(custody)
    await to(custody, 22)
    asked = custody.asked("p")
    await to(custody, 22.2)

    assert asked + 2 == custody.asked("p")
    assert 46 < expiries(custody)[0] < 46.2

    await to(custody, 44)

    assert (asked + 2, []) == (custody.asked("p"), await custody.alerts())


async def cleared(custody: "Custody") -> list[str]:
    """Return the kinds of what was said to be over."""
    return [alert["kind"] for alert in await custody.events("alert.cleared")]


async def test_spread(custody: "Custody") -> None:
    """Keys that were opened in the same moment are not all refreshed in the same moment."""
    for name in ("p", "q", "r"):
        await site(custody, name)
    for name in ("p", "q", "r"):
        await custody.open(ContainerRef("acme", name, 1))
    await to(custody, 23, minutes=1)

    assert len(set(expiries(custody))) == 3


async def test_probes_leave_it(custody: "Custody") -> None:
    """A probe does not extend the life of a TIK: its refresh is where an outage shows, in good time."""
    await site(custody)
    custody.clock.advance(300)
    await custody.custodian.prober.probe_cached()

    assert [24.0] == expiries(custody)


OF_TIKS = ("tik-refresh-failing", "tik-expiring")


async def test_outage_to_the_end(custody: "Custody") -> None:
    """Failing for half an hour is told, and so is the end before it comes, each once; then the key is gone.

    What was told of the policy's health is counted again after an hour.
    """
    ref = await site(custody)
    custody.hold("p", UNAVAILABLE, UNAVAILABLE)
    await to(custody, 22.4)

    assert ["policy-unhealthy"] == await custody.alerts()

    await to(custody, 22.8)

    assert ["policy-unhealthy", "tik-refresh-failing"] == await custody.alerts()

    await to(custody, 23.99)

    assert ["policy-unhealthy", "tik-refresh-failing", "policy-unhealthy", "tik-expiring"] == await custody.alerts()
    told = {(each["kind"], each["audience"]) for each in await custody.events("alert.raised")}
    assert {("policy-unhealthy", "customer"), *((kind, "engineering") for kind in OF_TIKS)} == told
    await custody.open(ref)

    await to(custody, 24)

    assert [] == expiries(custody)
    assert ["tik-expiring", "tik-refresh-failing"] == await cleared(custody)
    with pytest.raises(KeyRefused, match="the vault of neither root key answers"):
        await custody.open(ref)


async def test_second_episode(custody: "Custody") -> None:
    """A refresh that succeeds ends the episode: the next outage is told anew."""
    await site(custody)
    custody.hold("p", UNAVAILABLE, UNAVAILABLE)
    await to(custody, 22.8)
    custody.hold("p", OK, OK)
    await to(custody, 23)

    assert 46 < expiries(custody)[0] < 47.1
    assert ["tik-refresh-failing"] == await cleared(custody)

    custody.hold("p", UNAVAILABLE, UNAVAILABLE)
    await to(custody, 46)

    assert 2 == (await custody.alerts()).count("tik-refresh-failing")


@pytest.mark.parametrize(("a", "b", "left"), [(DENIED, UNAVAILABLE, 0), (INEXACT, INEXACT, 1), (DENIED, OK, 1)])
async def test_law_7_refresh_decides(custody: "Custody", a: Outcome | Denied, b: Outcome | Denied, left: int) -> None:
    """Law 7: a refresh evicts what is denied for certain at once, keeps what is not certain, and renews by one key."""
    await site(custody)
    custody.hold("p", a, b)
    before, now = custody.asked("p"), 22.0
    while custody.asked("p") == before:
        await to(custody, now := now + 1 / 60)

    assert left == len(expiries(custody))

    await to(custody, now + 1 / 30)

    assert int(OK in (a, b)) == len(expiries(custody))
    assert [] == [kind for kind in await custody.alerts() if kind.startswith("tik")]


@pytest.mark.parametrize("denied", [DENIED, INEXACT])
async def test_law_7_published_bound_of_tiks(custody: "Custody", denied: Outcome | Denied) -> None:
    """Law 7: the published bound holds for TIKs as well: a denial ends them long before their day is over.

    The caller is the worst there can be: it renews as soon as it may, and uses what it has to the last second.
    """
    ref = await site(custody)
    clock, settings = custody.clock, custody.settings
    await custody.custodian.prober.probe_cached()
    last_good, last_use = clock.monotonic(), 0.0
    custody.hold("p", denied, denied)
    for _ in range(20):
        try:
            opened = await custody.open(ref)
        except KeyRefused:
            break
        last_use = clock.monotonic() + opened.keep_seconds
        clock.advance(settings.keep_seconds)
        if clock.monotonic() % settings.probe_interval == 0:
            await custody.custodian.prober.probe_cached()

    assert 0 < last_use - last_good <= bound_seconds(settings)
