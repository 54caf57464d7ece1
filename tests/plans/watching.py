"""Have PostgreSQL explain every statement of a store as it runs, and tell which locks each transaction takes."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

# Those that have a row for each mailbox, item, file, event, step or day. The others have one for each tenant, policy,
# worker or act of an operator: reading a few thousand rows is what the planner rightly does there.
GROWS = frozenset(
    {
        *("alert_signals", "alerts", "approval_steps", "approvals", "assignment_outcomes", "audit_checkpoints"),
        *("audit_entries", "audit_seals", "container_keys", "container_wraps", "containers", "dead_letters"),
        *("deliveries", "evidence", "files", "inbox", "items", "jobs", "object_intents", "outbox"),
        *("purged_generations", "requests", "revocations", "superseded_objects", "taken_requests", "vault_operations"),
    }
)
SHARED_LOCKS = frozenset({"AccessShareLock", "RowShareLock", "RowExclusiveLock"})
SORTED = 2000  # rows that may be sorted: a few batches
_EXPLAINED = re.compile(r"\s*(SELECT|UPDATE|DELETE|WITH)\b")
_PLACES = re.compile(r"\$\d+(::[A-Z ]+)?(, \$\d+(::[A-Z ]+)?)+")
_LOCKS = """SELECT DISTINCT c.relname, l.mode FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND c.relnamespace = 'public'::regnamespace"""

Node = Mapping[str, Any]


@dataclass(slots=True)
class Explained:
    """Hold what one statement costs: in the planner's units, in rows that were looked at, and what is wrong."""

    statement: str
    cost: float = 0.0
    rows: float = 0.0
    times: int = 0
    wrong: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Watch:
    """Explain what an engine runs; `grows` are the tables that are full by now."""

    grows: frozenset[str] = GROWS
    found: dict[str, Explained] = field(default_factory=dict)
    locks: set[tuple[str, str]] = field(default_factory=set)

    def listen(self, engine: AsyncEngine) -> None:
        """Begin."""
        event.listen(engine.sync_engine, "before_cursor_execute", self._before)
        event.listen(engine.sync_engine, "commit", self._at_commit)

    @property
    def wrong(self) -> dict[str, set[str]]:
        """Return the statements that will not do, with what is wrong with them."""
        return {each.statement: each.wrong for each in self.found.values() if each.wrong}

    @property
    def strong_locks(self) -> set[tuple[str, str]]:
        """Return the locks that others who read or write rows would have to wait for."""
        return {lock for lock in self.locks if lock[1] not in SHARED_LOCKS}

    def _before(self, connection: Connection, _cursor: Any, statement: str, parameters: Any, *_more: Any) -> None:
        if not _EXPLAINED.match(statement):
            return
        reads = statement.lstrip().startswith(("SELECT", "WITH"))
        analyze = "ANALYZE, TIMING OFF, " if reads else ""
        cursor = connection.connection.cursor()
        one = parameters[0] if parameters and isinstance(parameters[0], tuple) else parameters
        cursor.execute(f"EXPLAIN ({analyze}FORMAT JSON) {statement}", one)
        ((text,),) = cursor.fetchall()
        cursor.close()
        (plan,) = json.loads(text) if isinstance(text, str) else text
        self._note(_PLACES.sub("…", statement), plan["Plan"])

    def _note(self, statement: str, plan: Node) -> None:
        explained = self.found.setdefault(statement, Explained(statement))
        explained.times += 1
        explained.cost = max(explained.cost, plan["Total Cost"])
        explained.rows = max(explained.rows, sum(map(_looked_at, self._scans(plan))))
        for node in _nodes(plan):
            if node["Node Type"] == "Seq Scan" and node["Relation Name"] in self.grows:
                explained.wrong.add(f"reads all of {node['Relation Name']}")
            if "Sort" in node["Node Type"] and _sorted(node) > SORTED and self._is_over(node):
                explained.wrong.add(f"sorts {_sorted(node):.0f} rows")

    def _scans(self, plan: Node) -> Iterator[Node]:
        return (node for node in _nodes(plan) if node.get("Relation Name") in self.grows)

    def _is_over(self, node: Node) -> bool:
        return any(True for _ in self._scans(node))

    def _at_commit(self, connection: Connection) -> None:
        cursor = connection.connection.cursor()
        cursor.execute(_LOCKS)
        self.locks |= {(table, mode) for table, mode in cursor.fetchall()}
        cursor.close()


def _nodes(plan: Node) -> Iterator[Node]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from _nodes(part)


def _looked_at(node: Node) -> float:
    removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    return float((node.get("Actual Rows", 0) + removed) * node.get("Actual Loops", 0))


def _sorted(node: Node) -> float:
    return max((part.get("Actual Rows", part["Plan Rows"]) for part in node["Plans"]), default=0.0)
