"""A custodian that begins, or goes on, while vaults are away: it says so, gathers evidence, and recovers by itself."""

import logging
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select

from schemas.identifiers import AvailabilityMode, Workload
from twinlock.custody.errors import KeyNotYet, KeyRefused
from twinlock.custody.port import USER, service
from twinlock.custody.revocation import register
from twinlock.custody.settings import GuardSettings
from twinlock.keys.ports import Outcome
from twinlock.store.tables.custody import evidence

if TYPE_CHECKING:
    from tests.integration.custody.conftest import Custody

OK, UNAVAILABLE, DENIED = Outcome.OK, Outcome.UNAVAILABLE, Outcome.DENIED
EAGER = GuardSettings(breaker_failures=2)


async def silent(custody: "Custody") -> list[str]:
    """Return what the custodian's row says of vaults that do not answer."""
    await custody.custodian.epoch.confirm()
    async with custody.store.read() as reader:
        (row,) = await register.read_all(reader)
    return list(row.report["silent"])


async def test_cold_start(custody: "Custody", caplog: pytest.LogCaptureFixture) -> None:
    """Both vaults are away at its start: it serves nothing, says which are silent, and serves when one answers."""
    caplog.set_level(logging.WARNING)
    policy = await custody.policy("p", AvailabilityMode.RECOVERY_ONLY, Workload.SITE)
    ref = await custody.container(policy, "site", Workload.SITE)
    custody.hold("p", UNAVAILABLE, UNAVAILABLE)
    custodian = custody.restart(guards=EAGER)

    assert [] == await silent(custody)

    for _ in range(8):
        with pytest.raises((KeyRefused, KeyNotYet)):
            await custody.open(ref)
        custody.clock.advance(31)
        await custodian.prober.probe_refused()

    assert ["memory://east", "memory://west"] == await silent(custody)
    assert "vault memory://east does not answer" in caplog.text
    assert custodian.epoch.holds

    custody.vault.hold(custody.roots("p")[1], OK)
    custody.clock.advance(300)
    await custodian.prober.probe_refused()

    assert not (await custody.open(ref)).by_availability_key
    assert ["memory://east"] == await silent(custody)
    assert "vault memory://west answers again" in caplog.text


async def test_law_5_evidence_behind_an_open_breaker(custody: "Custody") -> None:
    """Law 5: with its breaker open from the second failure on, an outage is still proven within a caller's patience."""
    custody.restart(guards=EAGER)
    ref = await custody.container(await custody.policy("p"))
    custody.hold("p", UNAVAILABLE, UNAVAILABLE)
    began = custody.clock.monotonic()
    opened = await custody.open_patiently(ref)

    assert opened.by_availability_key
    assert custody.clock.monotonic() - began < 45


async def test_law_5_policies_of_one_vault(custody: "Custody") -> None:
    """Law 5: each of the policies whose keys are in one vault gathers evidence of its own while its breaker is open."""
    custody.restart(guards=EAGER)
    refs = [await custody.container(await custody.policy(name), f"box-{name}") for name in ("p", "q", "r")]
    for name in ("p", "q", "r"):
        custody.hold(name, UNAVAILABLE, UNAVAILABLE)
    for _ in range(5):
        for ref in refs:
            with pytest.raises(KeyNotYet):
                await custody.open(ref)
        custody.clock.advance(7)
    async with custody.store.read() as reader:
        rows = await reader.rows(
            select(evidence.c.policy_id, evidence.c.slot, func.count().label("failures")).group_by(
                evidence.c.policy_id, evidence.c.slot
            )
        )

    assert 6 == len([row for row in rows if row.failures >= 3])
    for ref in refs:
        assert (await custody.open(ref)).by_availability_key


async def test_law_4_cut_off_hides_no_denial(custody: "Custody") -> None:
    """Laws 4 and 5: a call that our own breaker cut off replaces no denial, and is no evidence either."""
    custody.restart(guards=EAGER)
    ref = await custody.container(await custody.policy("p"))
    custody.hold("p", DENIED, DENIED)
    with pytest.raises(KeyRefused):
        await custody.open(ref, USER)
    custody.hold("p", UNAVAILABLE, UNAVAILABLE)
    for _ in range(6):
        custody.clock.advance(31)
        await custody.custodian.prober.probe_refused()
        with pytest.raises(KeyRefused, match="denied"):
            await custody.open(ref, USER)

    assert {"a": ("denied", "unavailable"), "b": ("denied", "unavailable")} == await custody.verdicts("p")
    assert (await custody.open(ref, service("index"))).by_availability_key
