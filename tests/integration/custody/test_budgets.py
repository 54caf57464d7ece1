"""A tenant's budget of vault calls: background work that has spent its part pauses, and people go on."""

from typing import TYPE_CHECKING

import pytest

from schemas.identifiers import AvailabilityMode
from twinlock.custody.errors import KeyNotYet, KeyRefused
from twinlock.custody.port import USER, ContainerRef, service
from twinlock.custody.settings import GuardSettings
from twinlock.keys.ports import Outcome

if TYPE_CHECKING:
    from tests.integration.custody.conftest import Custody

BACKGROUND = service("reencryption")
REFILL = 100.0  # seconds for one call
BUDGET = GuardSettings(tenant_rate=1 / REFILL, tenant_burst=8.0, reserve=0.5)


async def again_and_again(custody: "Custody", ref: ContainerRef) -> None:
    """Open as background work does, each time with a vault, until that fails."""
    for _ in range(100):
        await custody.open(ref, BACKGROUND)
        custody.clock.advance(2)


async def test_background_pauses_itself(custody: "Custody") -> None:
    """Background work leaves its reserve of a budget to people, and goes on by itself once that is filled again."""
    ref = await custody.container(await custody.policy("p"))
    custody.restart(dep_key_ttl=1.0, keep_seconds=1.0, guards=BUDGET)
    before = custody.asked("p")
    with pytest.raises(KeyNotYet):
        await again_and_again(custody, ref)
    spent = custody.asked("p") - before

    assert 0 < spent <= BUDGET.tenant_burst * BUDGET.reserve
    with pytest.raises(KeyNotYet, match="the tenant's budget of vault calls is spent"):  # and not: no vault answers
        await custody.open(ref, BACKGROUND)
    await custody.open(ref, USER)

    custody.clock.advance(BUDGET.tenant_burst * REFILL)
    await custody.open(ref, BACKGROUND)


async def test_refused_for_the_moment(custody: "Custody") -> None:
    """What is refused because a budget is spent says so, and not that two vaults failed that nobody asked."""
    policy = await custody.policy("p", mode=AvailabilityMode.NONE)
    ref = await custody.container(policy)
    custody.restart(dep_key_ttl=1.0, keep_seconds=1.0, guards=BUDGET)
    with pytest.raises(KeyRefused) as refusal:
        await again_and_again(custody, ref)

    assert "the tenant's budget of vault calls is spent for the moment" in refusal.value.detail
    assert "try again in a few seconds" == refusal.value.hint


async def test_silent_vaults(custody: "Custody") -> None:
    """Vaults that are left alone because they did not answer are still named as what fails: no limit of ours is."""
    ref = await custody.container(await custody.policy("p", mode=AvailabilityMode.NONE))
    custody.restart(guards=GuardSettings(breaker_failures=1, breaker_pause=36_000.0))
    custody.hold("p", Outcome.UNAVAILABLE, Outcome.UNAVAILABLE)
    for _ in range(2):  # the second time is the one try of each pause
        with pytest.raises(KeyRefused):
            await custody.open(ref)
        custody.clock.advance(600)
    asked = custody.asked("p")
    with pytest.raises(KeyRefused, match="the vault of neither root key answers"):
        await custody.open(ref)

    assert asked == custody.asked("p")
