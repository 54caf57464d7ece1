"""The prober: what a probe does to cached keys and refusals, and how long a denied key can still be in use."""

import asyncio
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from schemas.identifiers import PolicyState
from twinlock.custody.errors import KeyRefused
from twinlock.custody.fate import bound_seconds
from twinlock.custody.health import prober as health
from twinlock.custody.port import ContainerRef
from twinlock.keys.ports import Denied, Outcome, Unavailable, WrappedKey

if TYPE_CHECKING:
    from tests.integration.custody.conftest import Custody

OK, UNAVAILABLE, DENIED, UNCLEAR, CORRUPT = (
    Outcome.OK,
    Outcome.UNAVAILABLE,
    Outcome.DENIED,
    Outcome.UNCLEAR,
    Outcome.CORRUPT,
)
INEXACT = Denied("permission denied", uri="", raw="403", classifier="test/1", exact=False)


async def cached(custody: "Custody", name: str = "p") -> ContainerRef:
    """Make a policy and a container, and open it, so that the policy's key is cached."""
    ref = await custody.container(await custody.policy(name), f"box-{name}")
    await custody.open(ref)
    return ref


def lines(custody: "Custody") -> list[tuple[str, float]]:
    """Name what is cached, and until when."""
    return [(line.policy_id, line.expires) for line in custody.custodian.cached()]


async def test_law_7_probe_renews(custody: "Custody") -> None:
    """Law 7: a probe that a root key answers extends the life of the cached key, and asks both slots."""
    await cached(custody)
    asked = custody.asked("p")
    custody.clock.advance(300)
    await custody.custodian.prober.probe_cached()

    assert [("p", 900.0)] == lines(custody)
    assert asked + 2 == custody.asked("p")


async def test_probes_unwrap(custody: "Custody") -> None:
    """A probe never wraps: some vendors still wrap with a disabled key."""
    await cached(custody)
    wraps = sum(custody.vault.calls["wrap", uri] for uri in custody.roots("p"))
    await custody.custodian.prober.probe_cached()

    assert wraps == sum(custody.vault.calls["wrap", uri] for uri in custody.roots("p"))


@pytest.mark.parametrize(
    ("a", "b"),
    [(DENIED, DENIED), (DENIED, UNAVAILABLE), (UNAVAILABLE, DENIED), (DENIED, UNCLEAR), (CORRUPT, UNAVAILABLE)],
)
async def test_law_7_evicts_at_once(custody: "Custody", a: Outcome, b: Outcome) -> None:
    """Law 7: an exact denial, or a corrupt answer, with no good slot beside it evicts at the first probe."""
    await cached(custody)
    custody.hold("p", a, b)
    custody.clock.advance(300)
    await custody.custodian.prober.probe_cached()

    assert [] == lines(custody)


@pytest.mark.parametrize("other", [INEXACT, UNAVAILABLE, UNCLEAR])
async def test_law_7_evicts_at_the_second_probe(custody: "Custody", other: "Outcome | Denied") -> None:
    """Law 7: a denial without an exact code evicts when the second probe still refuses."""
    await cached(custody)
    custody.hold("p", INEXACT, other)
    custody.clock.advance(300)
    await custody.custodian.prober.probe_cached()

    assert [("p", 600.0)] == lines(custody)

    custody.clock.advance(299)
    await custody.custodian.prober.probe_cached()

    assert [] == lines(custody)


async def test_law_7_denied_then_silent(custody: "Custody") -> None:
    """Law 7: a denial that turns into an outage still evicts at the second probe: silence is no answer."""
    await cached(custody)
    custody.hold("p", INEXACT, INEXACT)
    custody.clock.advance(1)
    await custody.custodian.prober.probe_cached()
    custody.hold("p", UNAVAILABLE, UNAVAILABLE)
    custody.clock.advance(300)
    await custody.custodian.prober.probe_cached()

    assert [] == lines(custody)


@pytest.mark.parametrize(
    ("a", "b"),
    [(UNAVAILABLE, UNAVAILABLE), (UNCLEAR, UNAVAILABLE), (Outcome.MISCONFIGURED, Outcome.MISCONFIGURED)],
)
async def test_law_7_keeps_to_the_hard_expiry(custody: "Custody", a: Outcome, b: Outcome) -> None:
    """Law 7: what says nothing of the customer's will neither evicts nor extends."""
    await cached(custody)
    custody.hold("p", a, b)
    for _ in range(3):
        custody.clock.advance(150)
        await custody.custodian.prober.probe_cached()

        assert [("p", 600.0)] == lines(custody)


async def test_law_7_unclear_for_half_an_hour(custody: "Custody") -> None:
    """Law 7: both slots unclear for 30 minutes evict, however long the key could live."""
    custody.restart(dep_key_ttl=86400.0)
    await cached(custody)
    custody.hold("p", UNCLEAR, UNCLEAR)
    for _ in range(6):
        custody.clock.advance(299)
        await custody.custodian.prober.probe_cached()

        assert 1 == len(lines(custody))

    custody.clock.advance(306)
    await custody.custodian.prober.probe_cached()
    custody.clock.advance(1)
    await custody.custodian.prober.probe_cached()

    assert [] == lines(custody)


@pytest.mark.parametrize("denied", [DENIED, INEXACT])
@pytest.mark.parametrize("offset", [10, 150, 290])
async def test_law_7_published_bound(custody: "Custody", denied: "Outcome | Denied", offset: int) -> None:
    """Law 7: from the last good unwrap to the end of the last caller's hold, a denied key is in use within the bound.

    The caller is the worst there can be: it renews as soon as it may, and uses what it has to the last second.
    """
    custody.restart(dep_key_ttl=86400.0)
    ref = await cached(custody)
    prober, clock, settings = custody.custodian.prober, custody.clock, custody.settings
    last_good, last_use, next_probe = clock.monotonic(), 0.0, clock.monotonic() + settings.probe_interval
    denied_at = next_probe + offset
    for _ in range(100):
        clock.advance(10)
        if clock.monotonic() == denied_at:
            custody.hold("p", denied, denied)
        if clock.monotonic() == next_probe:
            last_good = clock.monotonic() if clock.monotonic() < denied_at else last_good
            await prober.probe_cached()
            next_probe += settings.probe_interval
        try:
            opened = await custody.open(ref)
        except KeyRefused:
            break
        last_use = clock.monotonic() + opened.keep_seconds

    assert 2 * (300 + 4) + 60 == bound_seconds(settings)
    assert 0 < last_use - last_good <= bound_seconds(settings)


async def test_revoked_policy_is_dropped(custody: "Custody") -> None:
    """A probe of a policy that was revoked meanwhile evicts its key and asks no vault."""
    await cached(custody)
    asked = custody.asked("p")
    await custody.set_state("p", PolicyState.REVOKED)
    await custody.custodian.prober.probe_cached()

    assert ([], asked) == (lines(custody), custody.asked("p"))


async def test_health_heals_by_itself(custody: "Custody") -> None:
    """A refused policy is probed on its schedule, and is healthy and served again once the root keys answer."""
    ref = await custody.container(await custody.policy("p"))
    custody.hold("p", DENIED, DENIED)
    with pytest.raises(KeyRefused):
        await custody.open(ref)
    prober = custody.custodian.prober
    asked = custody.asked("p")
    await prober.probe_refused()

    assert asked == custody.asked("p")

    custody.clock.advance(30)
    await prober.probe_refused()
    custody.hold("p", OK, OK)
    custody.clock.advance(59)
    await prober.probe_refused()

    assert asked + 2 == custody.asked("p")

    custody.clock.advance(1)
    await prober.probe_refused()
    await custody.open(ref)

    assert ["unhealthy", "healthy"] == [changed["health"] for changed in await custody.events("health.changed")]


@pytest.mark.parametrize(
    ("a", "b", "bad"), [(DENIED, DENIED, "unhealthy"), (DENIED, OK, "degraded")], ids=["unhealthy", "degraded"]
)
@pytest.mark.parametrize("restarted", [False, True])
async def test_health_heals_though_nobody_reads(
    custody: "Custody", a: Outcome, b: Outcome, bad: str, restarted: bool
) -> None:
    """A policy that is not healthy is asked in every round, whatever is cached, and by a custodian that starts anew."""
    await cached(custody)
    custody.hold("p", a, b)
    await custody.custodian.prober.probe_round()
    if restarted:
        custody.restart()
    asked = custody.asked("p")
    custody.clock.advance(300)
    await custody.custodian.prober.probe_round()

    assert asked + 2 == custody.asked("p")

    custody.hold("p", OK, OK)
    custody.clock.advance(300)
    await custody.custodian.prober.probe_round()
    await custody.custodian.prober.probe_round()

    left = [] if restarted or bad == "unhealthy" else ["p"]
    assert left == [policy for policy, _ in lines(custody)]
    assert [bad, "healthy"] == [changed["health"] for changed in await custody.events("health.changed")]
    assert asked + 4 + 2 * len(left) == custody.asked("p")


async def test_unwell_in_turns(custody: "Custody", monkeypatch: pytest.MonkeyPatch) -> None:
    """However many policies are not healthy, a round asks few, and each has its turn; what is revoked has none."""
    monkeypatch.setattr(health, "_UNWELL", 2)
    names = ["p", "q", "r", "s"]
    for name in names:
        await cached(custody, name)
        custody.hold(name, DENIED, DENIED)
        await custody.custodian.prober.probe_cached()
    await custody.set_state("s", PolicyState.REVOKED)
    asked = [custody.asked(name) for name in names]
    await custody.custodian.prober.probe_round()
    first = [custody.asked(name) - before for name, before in zip(names, asked, strict=True)]
    await custody.custodian.prober.probe_round()

    assert [2, 2, 0, 0] == first
    assert [2, 2, 2, 0] == [custody.asked(name) - before for name, before in zip(names, asked, strict=True)]


async def test_alerts_once(custody: "Custody") -> None:
    """However often a bad slot is probed, health changes once and each alert is raised once."""
    await cached(custody)
    custody.hold("p", UNAVAILABLE, OK)
    for _ in range(4):
        custody.clock.advance(300)
        await custody.custodian.prober.probe_cached()

    assert ["policy-degraded"] == await custody.alerts()
    assert [("degraded", "healthy", {"a": "unavailable", "b": "ok"}, 2)] == [
        (changed["health"], changed["was"], changed["slots"], changed["version"])
        for changed in await custody.events("health.changed")
    ]


async def test_one_bad_policy_stops_nobody(custody: "Custody", caplog: pytest.LogCaptureFixture) -> None:
    """A policy whose probe the store fails is logged, and the others are probed all the same."""
    await cached(custody, "p")
    await custody.open(await custody.container(await custody.policy("q"), "box-q"))
    await custody.open(ContainerRef("acme", "box-p", 1))
    asked = custody.asked("p")

    def _fail(_c: object, _cursor: object, statement: str, parameters: tuple[object, ...], *_rest: object) -> None:
        if statement.startswith("UPDATE verdicts") and "q" in parameters:
            raise OperationalError(statement, {}, OSError("the disk is full"))

    event.listen(custody.store.engine.sync_engine, "before_cursor_execute", _fail)
    custody.clock.advance(300)
    await custody.custodian.prober.probe_cached()

    assert "policy q could not be probed" in caplog.text
    assert asked + 2 == custody.asked("p")
    assert [("p", 900.0), ("q", 600.0)] == lines(custody)


async def test_unforeseen_fault_stops_nobody(custody: "Custody", monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault that nobody foresaw, in the probe of one policy, cuts off no other probe, nor the prober."""
    await cached(custody, "p")
    await custody.open(await custody.container(await custody.policy("q"), "box-q"))
    await custody.open(ContainerRef("acme", "box-p", 1))
    unwrap = custody.vault.unwrap

    async def _fail(wrapped: WrappedKey, context: bytes) -> bytes:
        if wrapped.uri.endswith("/q"):
            raise RuntimeError("an adapter is at fault")
        return await unwrap(wrapped, context)

    monkeypatch.setattr(custody.vault, "unwrap", _fail)
    custody.clock.advance(300)
    await custody.custodian.prober.probe_cached()

    assert [("p", 900.0), ("q", 600.0)] == lines(custody)


async def test_law_7_denied_beside_a_throttled_slot(custody: "Custody") -> None:
    """Law 7: a denial evicts at once also where the other vault only throttles, however good its last answer was."""
    await cached(custody)
    throttled = Unavailable("429", uri="", raw="429", classifier="test/1", counts=False)
    await custody.custodian.prober.probe_cached()
    custody.hold("p", DENIED, throttled)
    await custody.custodian.prober.probe_cached()

    assert [] == lines(custody)


async def test_run(custody: "Custody") -> None:
    """The prober keeps its schedule by itself: it renews every five minutes, and heals what was refused."""
    await cached(custody, "p")
    refused = await custody.container(await custody.policy("q"), "box-q")
    await custody.open(ContainerRef("acme", "box-p", 1))
    custody.hold("q", DENIED, DENIED)
    with pytest.raises(KeyRefused):
        await custody.open(refused)
    asked = custody.asked("p"), custody.asked("q")
    custody.hold("q", OK, OK)
    async with asyncio.TaskGroup() as group:
        prober = group.create_task(custody.custodian.prober.run())
        await _move(custody, 650)
        prober.cancel()

    assert (asked[0] + 4, asked[1] + 2) == (custody.asked("p"), custody.asked("q"))
    assert ["unhealthy", "healthy"] == [changed["health"] for changed in await custody.events("health.changed")]


async def _move(custody: "Custody", seconds: float) -> None:
    """Move the clock on by so much, a little whenever the prober has gone to sleep."""
    end = custody.clock.monotonic() + seconds
    while custody.clock.monotonic() < end:
        await _asleep(custody)
        custody.clock.advance(10)
    await _asleep(custody)


async def _asleep(custody: "Custody") -> None:
    while not custody.clock.sleepers:  # noqa: ASYNC110  # the clock under test has no event for it
        await asyncio.sleep(0)
