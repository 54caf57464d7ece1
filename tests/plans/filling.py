"""Fill a database of PostgreSQL as years of work leave it: many mailboxes, items, receipts, jobs and alerts."""

from dataclasses import asdict, dataclass
from pathlib import Path
from string import Template

from tests.servers.postgres import Postgres

_STATEMENTS = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
_BACKLOG = "-- backlog"  # begins what comes after the handlers have worked
# Rows by the hundred thousand, without a look at what they refer to: that is there.
_QUICKLY = "SET session_replication_role = replica; SET synchronous_commit = off; "
# Full with the backlog alone.
FROM_EVENTS = frozenset({"jobs", "outbox", "deliveries", "dead_letters"})


@dataclass(frozen=True, slots=True)
class Size:
    """Say how much there is; half of the mailboxes are of one tenant."""

    mailboxes: int
    items: int  # of each
    tenants: int
    backlog: int  # rows of each table that lives from events

    def __str__(self) -> str:
        return f"{self.mailboxes:,} mailboxes, {self.mailboxes * self.items:,} items, {self.backlog:,} of each event"


def fill_content(cluster: Postgres, database: str, size: Size) -> None:
    """Put mailboxes, items and what is past into a migrated database."""
    _load(cluster, database, size, _STATEMENTS.partition(_BACKLOG)[0])


def fill_backlog(cluster: Postgres, database: str, size: Size) -> None:
    """Put a job for each mailbox into it, and events that wait."""
    _load(cluster, database, size, _STATEMENTS.partition(_BACKLOG)[2])


def _load(cluster: Postgres, database: str, size: Size, script: str) -> None:
    for statement in Template(script).substitute(asdict(size)).split(";\n"):
        if "INSERT" in statement:
            cluster.load(_QUICKLY + statement, database)
    cluster.load("ANALYZE", database)
