"""Compare what every recurring statement costs with few mailboxes and with a million, with ten million items.

Of a private PostgreSQL; nothing may read or sort a whole table, lock one, or look at more rows where there are more.
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.plans.filling import Size
from tests.plans.recurring import exercise
from tests.plans.watching import Watch
from tests.servers.postgres import Postgres, migrate

SMALL = Size(mailboxes=20_000, items=10, tenants=2000, backlog=20_000)
LARGE = Size(mailboxes=1_000_000, items=10, tenants=2000, backlog=300_000)
MORE_ROWS = 1.5  # times, and a batch
# Times, and what the planner says of an index that is a level deeper, or of what ends with the first row that it finds;
# to read a table of these costs more than ten times as much.
MORE_COST = 2.0
BATCH, PLAN = 100, 2000.0


def measure(cluster: Postgres, name: str, size: Size) -> Watch:
    """Fill a database and do everything in it once."""
    began = time.monotonic()
    asyncio.run(migrate(cluster.create(name)))
    with tempfile.TemporaryDirectory() as folder:
        watch = asyncio.run(exercise(cluster, name, Path(folder), size))
    cost = sum(each.cost for each in watch.found.values())
    rows = sum(each.rows for each in watch.found.values())
    print(f"{size}: {time.monotonic() - began:.0f} s")
    print(f"  {len(watch.found)} statements, cost {cost:.0f}, {rows:.0f} rows looked at, once each")
    return watch


def faults(small: Watch, large: Watch) -> list[str]:
    """Say what is wrong."""
    found = [f"{', '.join(sorted(wrong))}: {statement}" for statement, wrong in large.wrong.items()]
    found += [f"{mode} on {table}" for table, mode in sorted(large.strong_locks)]
    for statement, more in large.found.items():
        less = small.found.get(statement)
        if less is None:
            continue
        if more.rows > MORE_ROWS * less.rows + BATCH:
            found.append(f"{less.rows:.0f} rows become {more.rows:.0f}: {statement}")
        if more.cost > MORE_COST * less.cost + PLAN:
            found.append(f"a cost of {less.cost:.0f} becomes {more.cost:.0f}: {statement}")
    return found


def main() -> int:
    """Measure both, and fail where something is wrong."""
    cluster = Postgres()
    try:
        cluster.start()
        wrong = faults(measure(cluster, "small", SMALL), measure(cluster, "large", LARGE))
    finally:
        cluster.close()
    print("\n\n".join(wrong) or "nothing reads, sorts or locks a whole table")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
