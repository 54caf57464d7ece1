"""How the custodian opens site policies: by hedged unwraps, and by the same decision table as mailbox policies."""

import asyncio
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select

from schemas.identifiers import Slot, Workload
from twinlock.custody.errors import KeyNotYet, KeyRefused
from twinlock.custody.port import USER, ContainerRef, Initiator, service
from twinlock.keys.ports import Outcome
from twinlock.store.tables.custody import evidence

if TYPE_CHECKING:
    from tests.integration.custody.conftest import Custody

HANGS = 3600.0


async def site(custody: "Custody", name: str) -> ContainerRef:
    """Make a site below a policy of the same name."""
    return await custody.container(await custody.policy(name, workload=Workload.SITE), name, Workload.SITE)


async def result(custody: "Custody", ref: ContainerRef, initiator: Initiator) -> str:
    """Open a container key, and say what came of it."""
    try:
        opened = await custody.open(ref, initiator)
    except (KeyRefused, KeyNotYet) as refused:
        return refused.detail.replace(ref.container_id, "POLICY")
    return f"served, by the availability key: {opened.by_availability_key}"


@pytest.mark.parametrize("slot", [Slot.A, Slot.B])
async def test_law_5_hanging_vault(custody: "Custody", slot: Slot) -> None:
    """Law 5: while one vault hangs sites are served by the other, and the request that was cancelled proves nothing."""
    ref = await site(custody, "p")
    hanging, good = custody.roots("p") if slot is Slot.A else reversed(custody.roots("p"))
    custody.vault.slow(hanging, HANGS)
    before, known = custody.vault.calls["unwrap", good], await custody.verdicts("p")
    for round_ in range(1, 5):
        opened = await custody.open_patiently(ref)

        assert not opened.by_availability_key
        assert 0 == custody.vault.in_flight
        assert round_ == custody.vault.calls["unwrap", good] - before
        await expire(custody)
    async with custody.store.read() as reader:
        assert 0 == await reader.scalar(select(func.count()).select_from(evidence))
    assert known.get(slot) == (await custody.verdicts("p")).get(slot)
    assert [] == await custody.alerts()


async def expire(custody: "Custody") -> None:
    """Let every cached key expire, in the same custodian."""
    custody.clock.advance(custody.settings.tik_ttl)


async def test_takes_turns(custody: "Custody") -> None:
    """Where both vaults answer at once each is asked every second time, and never both."""
    ref = await site(custody, "p")
    before = {uri: custody.vault.calls["unwrap", uri] for uri in custody.roots("p")}
    for _ in range(6):
        await custody.open(ref)
        await expire(custody)

    assert [3, 3] == [custody.vault.calls["unwrap", uri] - before[uri] for uri in custody.roots("p")]


async def test_mailboxes_fail_over(custody: "Custody") -> None:
    """Mailbox policies are not hedged: the other vault is asked only when the first has failed."""
    await custody.policy("p")
    ref = await custody.container("p")
    for uri in custody.roots("p"):
        custody.vault.slow(uri, 2.0)
    before = custody.asked("p")
    await custody.open_patiently(ref)

    assert 1 == custody.asked("p") - before


async def test_many_first_readers(custody: "Custody") -> None:
    """Hundreds who read first make one unwrap, and at most one extra request."""
    ref = await site(custody, "p")
    for uri in custody.roots("p"):
        custody.vault.slow(uri, HANGS if uri == custody.roots("p")[0] else 1.0)
    before = custody.asked("p")

    async def _all() -> int:
        async with asyncio.TaskGroup() as group:
            readers = [
                group.create_task(custody.custodian.open_container_key(ref, custody.asker())) for _ in range(300)
            ]
        return len({reader.result().key.commitment() for reader in readers})

    assert 1 == await custody.moving(_all())
    assert custody.asked("p") - before <= 2


@pytest.mark.parametrize("pair", list(combinations_with_replacement(Outcome, 2)), ids="+".join)
async def test_same_table(custody: "Custody", pair: tuple[Outcome, Outcome]) -> None:
    """Whatever two root keys come to, a site's policy gives what a mailbox's gives, to people and to the service."""
    await custody.policy("boxes")
    refs = [await custody.container("boxes", "boxes"), await site(custody, "sites")]
    for initiator in (USER, service("index")):
        for ref in refs:
            custody.hold(ref.container_id, *pair)
        custody.restart()
        mailbox, hedged = [await result(custody, ref, initiator) for ref in refs]

        assert mailbox == hedged
    assert custody.vault.in_flight == 0
