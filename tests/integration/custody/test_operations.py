"""What is counted of vault calls: every one that goes out, for whom, and nothing twice."""

from collections import Counter
from datetime import date, timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError

from twinlock.custody.audit.log import AuditEntry, AuditLog
from twinlock.custody.costs import CostSettings, Month, Price, Share, costs_of, shares_of, users_of
from twinlock.custody.lifecycle import purging
from twinlock.custody.operations import Account, Operation, Tally
from twinlock.keys.ports import Outcome
from twinlock.store.tables.custody import availability_keys, vault_operations
from twinlock.store.unit import Cause, Store

if TYPE_CHECKING:
    from tests.integration.custody.conftest import Custody

CAUSE = Cause("test")
EAST = "https://east.example:8200"


async def rows(store: Store) -> Counter[tuple[str, str, str]]:
    """Return what the table holds of the tenant, by policy, vault and operation."""
    found = Counter[tuple[str, str, str]]()
    async with store.read() as reader:
        table = vault_operations.c
        counts = select(table.policy_id, table.vault, table.operation, table["count"].label("asked"))
        for row in await reader.rows(counts.where(table.tenant_id == "acme")):
            found[(row.policy_id, row.vault, row.operation)] += row.asked
    return found


async def test_each_call_is_counted(custody: "Custody") -> None:
    """What is written is exactly what the vaults were asked: good answers, denials and outages alike."""
    ref = await custody.container(await custody.policy("p"))
    made = custody.process()
    custody.vault.calls.clear()
    custody.provider.calls.clear()
    custody.custodian = made
    await custody.open(ref)
    custody.hold("p", Outcome.DENIED, Outcome.UNAVAILABLE)
    await made.prober.probe_cached()
    await made.count_operations()
    east, west = custody.roots("p")

    assert {
        ("p", "memory://east", "unwrap"): custody.vault.calls["unwrap", east],
        ("p", "memory://west", "unwrap"): custody.vault.calls["unwrap", west],
    } == await rows(custody.store)
    assert 3 == custody.asked("p")


async def test_wraps_are_counted(custody: "Custody") -> None:
    """Making a policy key counts for its policy: wraps, the unwraps that verify them, and what the provider makes."""
    await custody.policy("p")
    await custody.custodian.count_operations()
    asked = {
        (operation, uri.rpartition("/")[0]): count
        for vault in (custody.vault, custody.provider)
        for (operation, uri), count in vault.calls.items()
        if operation in ("wrap", "unwrap")
    }
    found = await rows(custody.store)

    assert asked == {(kind, vault): count for (_, vault, kind), count in found.items() if kind in ("wrap", "unwrap")}
    assert 1 == found["p", "local://provider", "create"]


async def test_adds_up(store: Store, database_kind: str) -> None:
    """Two processes add to one row, and a second flush of one adds nothing."""
    tallies = Tally(store.clock), Tally(store.clock)
    for tally in tallies:
        tally.note(EAST, Account("acme", "p"), Operation.UNWRAP)
        tally.note(EAST, Account("acme", "p"), Operation.UNWRAP)
        await tally.flush(store)
        await tally.flush(store)

    assert {("p", EAST, "unwrap"): 4} == await rows(store), database_kind


async def test_kept_until_written(custody: "Custody", monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts that can't be written stay, and are written with the next ones."""
    tally = Tally(custody.clock)
    tally.note(EAST, Account("acme", "p"), Operation.WRAP)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "begin", _refuse)
        with pytest.raises(OperationalError):
            await tally.flush(custody.store)
    tally.note(EAST, Account("acme", "p"), Operation.WRAP)
    await tally.flush(custody.store)

    assert {("p", EAST, "wrap"): 2} == await rows(custody.store)


def _refuse(*_arguments: object) -> None:
    raise OperationalError("INSERT", {}, Exception("the disk is full"))


async def test_month(custody: "Custody") -> None:
    """A month has its own days in UTC, and no other tenant's; a key costs once, and not before its policy."""
    await custody.container(await custody.policy("p"))
    tally, today = Tally(custody.clock), custody.clock.now().date()
    for account in (Account("acme", "p"), Account("other", "q")):
        for _ in range(10_000):
            tally.note(EAST, account, Operation.UNWRAP)
    await tally.flush(custody.store)
    month = Month(today.replace(day=1))
    before, after = Month((month.first - timedelta(days=1)).replace(day=1)), Month(month.end)
    settings = CostSettings(Price(0.5, 2.0), {EAST: Price(3.0, 1.0)})
    async with custody.store.read() as reader:
        now, earlier, later = [await costs_of(reader, "acme", each, settings) for each in (month, before, after)]
        users = await users_of(reader, "acme")

    assert {EAST: 3.0, "local://provider": 0.0, "memory://east": 2.0, "memory://west": 2.0} == {
        cost.vault: cost.usd for cost in now
    }
    assert [] == earlier
    assert [0, 0, 0] == [cost.count for cost in later]
    assert 1 == users


async def test_keys_of_a_month(custody: "Custody") -> None:
    """A purge ends its keys with the month it is in: that one and those before still have them, and later ones not."""
    await custody.policy("p")
    made = Month(custody.clock.now().date().replace(day=1))
    custody.clock.advance(86_400 * 40)
    audit, uri = AuditLog(custody.store, "test", bytes(32), custody.clock), custody.availability("p")
    async with custody.store.begin(CAUSE) as unit:
        await purging.settle(unit, "p")
        await unit.execute(update(availability_keys).values(state="destroyed"))
        await audit.append(unit, AuditEntry("availability-key-destroyed", "acme", "p", {"uri": uri, "final": True}))
    purged = Month(custody.clock.now().date().replace(day=1))
    async with custody.store.read() as reader:
        found = [await costs_of(reader, "acme", month, CostSettings()) for month in (made, purged, Month(purged.end))]

    assert [3, 3, 0] == [sum(vault.keys for vault in vaults) for vaults in found]


async def test_shares(custody: "Custody") -> None:
    """The operations of a month are told by policy and by day, each at the price of its vault."""
    await custody.policy("p")
    tally, today = Tally(custody.clock), custody.clock.now().date()
    for policy, vault in (("p", EAST), ("p", "https://west"), ("gone", EAST)):
        tally.note(vault, Account("acme", policy), Operation.UNWRAP)
    await tally.flush(custody.store)
    custody.clock.advance(86_400)
    tally.note(EAST, Account("acme", "p"), Operation.UNWRAP)
    tally.note(EAST, Account("other", "q"), Operation.UNWRAP)
    await tally.flush(custody.store)
    settings = CostSettings(Price(10_000.0), {EAST: Price(20_000.0)})
    async with custody.store.read() as reader:
        found = await shares_of(reader, "acme", Month(today.replace(day=1)), settings)

    assert {"gone": Share(1, 2.0), "p": Share(3, 5.0)} == found.policies
    assert {today: Share(3, 5.0), today + timedelta(days=1): Share(1, 2.0)} == found.days


@pytest.mark.parametrize(
    ("vault", "price"),
    [("https://east.example:8200", 1.0), ("https://west", 2.0), ("local://left", 0.0), ("aws://x", 3.0)],
)
def test_price(vault: str, price: float) -> None:
    """The vault's own price wins, then its scheme's, then the one for all others; embedded vaults are free."""
    settings = CostSettings(Price(3.0), {EAST: Price(1.0), "https": Price(2.0)})

    assert price == settings.of(vault).per_10000_operations


def test_end_of_year() -> None:
    """The month after December is January of the next year."""
    assert date(2027, 1, 1) == Month(date(2026, 12, 1)).end
