"""What the contenders of the throughput benchmark share: the rows they change, the orders they take, and their start.

A contender is a process that gets ready, says so with a line, and begins when it gets one.
"""

import sys
from dataclasses import dataclass

ROWS = 1000  # as many as the schema has
PREFETCH, CONCURRENCY = 64, 32
QUEUE = "bench"

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS bench_rows (id integer PRIMARY KEY, value integer NOT NULL)",
    "CREATE TABLE IF NOT EXISTS bench_inbox (id text PRIMARY KEY, at timestamptz NOT NULL)",
    "TRUNCATE bench_rows, bench_inbox",
    "INSERT INTO bench_rows SELECT number, 0 FROM generate_series(0, 999) AS number",
)


@dataclass(frozen=True, slots=True)
class Addresses:
    """Hold where a contender finds its servers: the URLs as the settings take them."""

    broker: str
    database: str

    @property
    def dsn(self) -> str:
        """Return the database's address as the bare drivers take it."""
        return self.database.replace("+asyncpg", "")


def addresses() -> Addresses:
    """Read the addresses that this process was started with."""
    broker, database = sys.argv[1:3]
    return Addresses(broker, database)


def row_of(event_id: str) -> int:
    """Return the row that an event changes."""
    return int(event_id.rpartition("-")[2]) % ROWS


def wait_for_start() -> None:
    """Say that everything is ready, and return when the referee says go."""
    print("ready", flush=True)
    sys.stdin.readline()
