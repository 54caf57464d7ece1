"""What grows with time is forgotten by age: the old rows, no others, and a bounded number of them at once."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, select

from twinlock.store.pruning import prune
from twinlock.store.tables.alerts import alerts
from twinlock.store.tables.custody import taken_requests, vault_operations
from twinlock.store.tables.work import assignment_outcomes
from twinlock.store.unit import Cause, Store
from workers.roster import upkeep_of

if TYPE_CHECKING:
    from tests.integration.conftest import Pump, World

CAUSE = Cause("test")
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


async def test_batches(store: Store) -> None:
    """A batch takes the oldest rows and those of the same age, and what is not meant, or young, stays."""
    now = store.clock.now()
    ages = [0, 1, 2, 2, 2, 3, 4, 5]
    rows = [
        {"caller": "ab"[number == 7], "id": str(number), "until": now - timedelta(seconds=age)}
        for number, age in enumerate(ages)
    ]
    async with store.begin(CAUSE) as unit:
        await unit.execute(insert(taken_requests), rows)

    assert 6 == await prune(store, taken_requests.c.until, now, taken_requests.c.caller == "a", most=2)

    async with store.read() as reader:
        assert ["0", "7"] == sorted(row.id for row in await reader.rows(select(taken_requests)))


def _alert(name: str, resolved_at: Any) -> dict[str, Any]:
    about = {"kind": "k", "severity": "info", "audience": "customer", "tenant": "provider", "detail": "", "times": 1}
    told = {"ongoing": None if resolved_at else name, "state": "resolved" if resolved_at else "open", "version": 1}
    long_ago = {"first_seen": resolved_at or _LONG_AGO, "last_seen": resolved_at or _LONG_AGO, "changed_at": _LONG_AGO}
    return {"id": name, "topic": name, "resolved_at": resolved_at, **about, **told, **long_ago}


async def test_upkeep(world: "World", pump: "Pump") -> None:
    """Lists, alerts that are over and counts of operations go when their time is over; what is open never goes."""
    settings, now = pump.settings, world.clock.now()
    noted = {"job_id": "j", "outcome": "assigned", "reason": ""}
    asked = {"tenant_id": "t", "policy_id": "p", "vault": "v", "operation": "unwrap", "count": 1}

    def old(seconds: float) -> Any:
        return now - timedelta(seconds=seconds + 90_000)

    async with world.store.begin(CAUSE) as unit:
        lists = {"old": old(settings.lists_keep), "new": now, "unknown": None}
        await unit.execute(
            insert(assignment_outcomes), [{"container": n, "at": at, **noted} for n, at in lists.items()]
        )
        resolved = {"old": old(settings.alerts_keep), "new": now, "open": None}
        await unit.execute(insert(alerts), [_alert(name, at) for name, at in resolved.items()])
        days = [old(settings.operations_keep).date(), now.date()]
        await unit.execute(insert(vault_operations), [{"day": day, **asked} for day in days])
    for task in upkeep_of(pump.place):
        if task.name.startswith("forget old"):
            await task.action()
    async with world.store.read() as reader:
        assert {"new", "unknown"} == {row.container for row in await reader.rows(select(assignment_outcomes))}
        assert {"new", "open"} == {row.id for row in await reader.rows(select(alerts))}
        assert [now.date()] == [row.day for row in await reader.rows(select(vault_operations))]
