"""Hedged unwraps through the whole custodian: whatever two vaults do, a call gets what the decision table says."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, update
from sqlalchemy.ext.asyncio import AsyncEngine

from schemas.identifiers import AvailabilityMode, PolicyHealth, PolicyState, Slot, Workload
from tests.integration.custody.conftest import CAUSE, Custody
from tests.unit.hedging import DEADLINE, NEVER, SETTINGS, Answer
from tests.unit.inline_store import inline_engine
from tests.virtual import VirtualClock, virtually
from twinlock.custody.decision import ROOT_SLOTS, AvailabilityKeyState, Evidence, Result, decide, remember
from twinlock.custody.errors import KeyNotYet, KeyRefused
from twinlock.custody.port import USER, ContainerRef, Initiator, service
from twinlock.custody.settings import CustodySettings
from twinlock.keys.ports import Outcome
from twinlock.store.tables.custody import evidence, policies, verdicts
from twinlock.store.tables.tenants import tenants
from twinlock.store.unit import Store
from twinlock.vaults.software.memory import MemoryVault

DELAYS = st.one_of(st.integers(0, 24).map(lambda n: n / 8), st.just(NEVER))
ANSWERS = st.builds(Answer, st.sampled_from([*Outcome, Outcome.OK, Outcome.UNAVAILABLE, Outcome.DENIED]), DELAYS)
# One attempt and no second one, so that the requests of a call are those of one unwrap.
RULES = CustodySettings(hedge=SETTINGS, vault_deadline=DEADLINE, retry_pause=1e4)


@dataclass(frozen=True)
class Case:
    """Say what two vaults do, what was known before, who asks, and whether the provider's own vault answers."""

    answers: tuple[Answer, Answer]
    denied_before: tuple[bool, bool]
    proven: tuple[bool, bool]
    mode: AvailabilityMode
    initiator: Initiator
    provider: bool

    @property
    def expected(self) -> tuple[Result, str]:
        """Return what the decision table says."""
        a, b = (
            remember(Outcome.DENIED if denied else None, answer.outcome)
            for denied, answer in zip(self.denied_before, self.answers, strict=True)
        )
        decision = decide(
            state=PolicyState.ACTIVE,
            mode=self.mode,
            initiator=self.initiator.kind,
            slots=(a, b),
            evidence=Evidence(*self.proven, witness=self.provider),
            availability=AvailabilityKeyState.PRESENT if self.provider else AvailabilityKeyState.FAILED,
        )
        return decision.result, decision.reason.value if decision.result is Result.REFUSE else ""


PAIRS = st.tuples(st.booleans(), st.booleans())
CASES = st.builds(
    Case,
    st.tuples(ANSWERS, ANSWERS),
    PAIRS,
    st.one_of(st.just((True, True)), PAIRS),
    st.sampled_from(AvailabilityMode),
    st.sampled_from([USER, service("index")]),
    st.booleans(),
)


class House:
    """Hold one site for every availability mode, on rows that each case finds as they were."""

    def __init__(self, engine: AsyncEngine) -> None:
        clock: Any = VirtualClock()  # nobody here moves it by hand
        self.custody = Custody(Store(engine, clock, "urn:test"), clock, MemoryVault(clock), MemoryVault(clock), RULES)
        self.sites: dict[AvailabilityMode, ContainerRef] = {}

    async def furnish(self) -> None:
        """Make the sites."""
        async with self.custody.store.begin(CAUSE) as unit:
            created = self.custody.clock.now()
            await unit.execute(insert(tenants).values(id="acme", name="acme", trial=False, created_at=created))
        for mode in AvailabilityMode:
            policy = await self.custody.policy(mode.value, mode, Workload.SITE)
            self.sites[mode] = await self.custody.container(policy, mode.value, Workload.SITE)

    async def arrange(self, case: Case) -> None:
        """Make it so."""
        custody, policy = self.custody, case.mode.value
        custody.restart()
        custody.vault.calls.clear()
        for uri, answer in zip(custody.roots(policy), case.answers, strict=True):
            custody.vault.hold(uri, Outcome(answer.what))
            custody.vault.slow(uri, answer.delay)
        custody.provider.hold(custody.availability(policy), Outcome.OK if case.provider else Outcome.UNAVAILABLE)
        async with custody.store.begin(CAUSE) as unit:
            await unit.execute(update(policies).values(health=PolicyHealth.HEALTHY.value))
            for table in (verdicts, evidence):
                await unit.execute(delete(table))
            for slot, denied, proven in zip(ROOT_SLOTS, case.denied_before, case.proven, strict=True):
                if denied:
                    await unit.execute(insert(verdicts).values(**self._denied(policy, slot)))
                if proven:
                    times = [custody.clock.now() - timedelta(seconds=ago) for ago in (60, 40, 20)]
                    rows = [{"policy_id": policy, "slot": slot.value, "at": at} for at in times]
                    await unit.execute(insert(evidence), rows)

    def _denied(self, policy: str, slot: Slot) -> dict[str, object]:
        at = self.custody.clock.now() - timedelta(hours=1)
        texts = dict.fromkeys(("detail", "raw", "request_id", "classifier"), "")
        values = {"policy_id": policy, "slot": slot.value, "definite": "denied", "outcome": "denied", "exact": True}
        return {**values, **texts, "definite_at": at, "since": at, "checked_at": at}

    async def result(self, case: Case) -> tuple[Result, str]:
        """Open the site's key once, and say what came of it."""
        asker = self.custody.asker(case.initiator, 4 * DEADLINE)
        try:
            opened = await self.custody.custodian.open_container_key(self.sites[case.mode], asker)
        except KeyNotYet:
            return Result.WAIT, ""
        except KeyRefused as refused:
            return Result.REFUSE, refused.detail.partition(": ")[2]
        return (Result.SERVE_BY_AVAILABILITY_KEY if opened.by_availability_key else Result.SERVE), ""


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    """Bring the house."""

    async def build() -> House:
        made = House(await inline_engine())
        await made.furnish()
        return made

    made = virtually(build)
    yield made
    asyncio.run(made.custody.store.close())


@settings(max_examples=300)
@given(CASES)
def test_law_5_every_schedule(house: House, case: Case) -> None:
    """Whatever two vaults do and whoever asks, the custodian does what the table says, by two requests at most.

    Laws 4 and 5: a denial holds through what says nothing, and only proven outages open the availability key.
    """

    async def _work() -> None:
        await house.arrange(case)
        result = await house.result(case)

        assert case.expected == result
        assert max(house.custody.vault.calls.values()) <= 1
        assert 0 == house.custody.vault.in_flight == house.custody.provider.in_flight

    virtually(_work)
