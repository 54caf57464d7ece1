"""The audit log: what was done with keys, durable before a key is released (law 15).

Every writer numbers its entries from 1 without a gap: the number is taken inside the transaction that stores the entry,
so that what rolls back leaves no hole. An entry's MAC is

    HMAC-SHA256(key, "twinlock.audit.v1" || 0x00 || JSON)

over UTF-8 JSON with sorted keys, no spaces and no escapes beyond what JSON demands, of an object with exactly the
fields at (UTC, ISO 8601, always six digits of microseconds, "+00:00"), detail, kind, policy_id, sequence, tenant_id and
writer. `detail` holds strings, integers, booleans, nulls and lists of them: floats have no canonical form.
"""

import asyncio
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from sqlalchemy import func, insert, select

from twinlock.keys.ports import Clock
from twinlock.keys.secret import SecretKey
from twinlock.store.tables.custody import audit_entries
from twinlock.store.unit import Cause, Store, Unit, new_id

LABEL = b"twinlock.audit.v1\x00"

Scalar = str | int | bool | None


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Say what was done, for whom and under which policy; never key material, never content."""

    kind: str
    tenant_id: str | None
    policy_id: str | None
    detail: Mapping[str, Scalar | Sequence[Scalar]]

    def __post_init__(self) -> None:
        for name, value in self.detail.items():
            parts = value if isinstance(value, (list, tuple)) else (value,)
            if not all(part is None or isinstance(part, (str, int)) for part in parts):
                raise TypeError(f"an audit entry's {name!r} must be text, a number, a truth value or a list of them")


def entry_mac(key: SecretKey | bytes, writer: str, sequence: int, at: datetime, entry: AuditEntry) -> bytes:
    """Return the 32 bytes that bind an entry to its writer and place."""
    body = {
        "at": at.astimezone(UTC).isoformat(timespec="microseconds"),
        "detail": dict(entry.detail),
        "kind": entry.kind,
        "policy_id": entry.policy_id,
        "sequence": sequence,
        "tenant_id": entry.tenant_id,
        "writer": writer,
    }
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return hmac.digest(key.expose() if isinstance(key, SecretKey) else key, LABEL + canonical, sha256)


def is_genuine(key: SecretKey | bytes, row: Any) -> bool:
    """Say whether a stored row of `audit_entries` is as its writer left it."""
    entry = AuditEntry(row.kind, row.tenant_id, row.policy_id, row.detail)
    return hmac.compare_digest(row.mac, entry_mac(key, row.writer, row.sequence, row.at, entry))


async def lock_writer(unit: Unit, writer: str) -> None:
    """Let nobody else write as this writer for the rest of the transaction: they would take the same number."""
    if unit.connection.dialect.name == "postgresql":  # SQLite has one writer anyway
        await unit.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"audit:{writer}", 0))))


@dataclass(eq=False, slots=True)
class _Ticket:
    entries: tuple[AuditEntry, ...]
    durable: bool = False


class AuditLog:
    """Append entries for one writer. Calls at the same time share one transaction, without a task of its own."""

    def __init__(self, store: Store, writer_id: str, mac_key: SecretKey | bytes, clock: Clock) -> None:
        self._store = store
        self._writer = writer_id
        self._key = mac_key
        self._clock = clock
        self._waiting: dict[_Ticket, None] = {}  # in the order in which they came
        self._turn = asyncio.Lock()

    @property
    def writer(self) -> str:
        """Return in whose name it writes."""
        return self._writer

    async def record(self, *entries: AuditEntry) -> None:
        """Return when the entries are durable; raise what the store raised if they are not.

        Whoever has the turn writes for all who wait. One that is cancelled or fails leaves the others' entries waiting,
        and the next in turn writes them. A cancellation in the middle of a commit can repeat an entry, never lose one.
        """
        ticket = _Ticket(entries)
        self._waiting[ticket] = None
        try:
            async with self._turn:
                if not ticket.durable:
                    await self._write()
        finally:
            self._waiting.pop(ticket, None)

    async def append(self, unit: Unit, *entries: AuditEntry) -> int:
        """Add entries to a unit of work, stored with the change that they tell of or not at all.

        Return the number of the last one, 0 where there is none.
        """
        if not entries:
            return 0
        last = await self._last(unit)
        at = self._clock.now()
        rows = [self._row(last + step, at, entry) for step, entry in enumerate(entries, 1)]
        await unit.execute(insert(audit_entries), rows)
        return last + len(entries)

    async def _write(self) -> None:
        async with self._store.begin(Cause(correlation=new_id())) as unit:
            tickets = tuple(self._waiting)  # only now: more may have come while this waited for the database
            await self.append(unit, *(entry for ticket in tickets for entry in ticket.entries))
        for ticket in tickets:
            ticket.durable = True
            self._waiting.pop(ticket, None)

    async def _last(self, unit: Unit) -> int:
        await lock_writer(unit, self._writer)
        last = await unit.scalar(
            select(func.max(audit_entries.c.sequence)).where(audit_entries.c.writer == self._writer)
        )
        return last or 0

    def _row(self, sequence: int, at: datetime, entry: AuditEntry) -> dict[str, Any]:
        return {
            "writer": self._writer,
            "sequence": sequence,
            "at": at,
            "kind": entry.kind,
            "tenant_id": entry.tenant_id,
            "policy_id": entry.policy_id,
            "detail": {name: list(v) if isinstance(v, tuple) else v for name, v in entry.detail.items()},
            "mac": entry_mac(self._key, self._writer, sequence, at, entry),
        }
