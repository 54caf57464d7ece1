"""The audit log: durable, gapless, genuine, and shared by callers at the same time."""

import asyncio
import hmac
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import select

from twinlock.clock import ManualClock
from twinlock.custody.audit.log import AuditEntry, AuditLog, is_genuine
from twinlock.keys.secret import SecretKey
from twinlock.store.tables.custody import audit_entries
from twinlock.store.unit import Cause, Store, Unit

KEY = bytes(range(32))
CAUSE = Cause("test")


class CountingStore(Store):
    """Count transactions, and fail them on demand; while `gate` is held none gets further than its beginning."""

    begun = 0
    fail = False

    @asynccontextmanager
    async def begin(self, cause: Cause) -> AsyncIterator[Unit]:
        """Begin a unit once the gate is open."""
        self.begun += 1
        async with self.gate, super().begin(cause) as unit:
            yield unit
            if self.fail:
                raise OSError("the disk is full")

    @property
    def gate(self) -> asyncio.Lock:
        """Return the gate."""
        held: asyncio.Lock = self.__dict__.setdefault("_gate", asyncio.Lock())
        return held


@pytest.fixture
def counting(store: Store, clock: ManualClock) -> CountingStore:
    """Return a store that counts."""
    return CountingStore(store.engine, clock, "urn:twinlock:test")


@pytest.fixture
def log(counting: CountingStore, clock: ManualClock) -> AuditLog:
    """Return an audit log on it."""
    return AuditLog(counting, "custodian", KEY, clock)


def entry(name: str) -> AuditEntry:
    """Make an entry that can be told from others."""
    return AuditEntry("key-opened", "tenant", "policy", {"name": name})


async def stored(store: Store) -> Sequence[Any]:
    """Return all rows, by writer and sequence."""
    async with store.read() as reader:
        return await reader.rows(select(audit_entries).order_by(audit_entries.c.writer, audit_entries.c.sequence))


async def test_law_15_durable(log: AuditLog, store: Store) -> None:
    """Law 15: when `record` returns, another connection sees the entry."""
    await log.record(entry("one"))

    assert [("custodian", 1, {"name": "one"})] == [(r.writer, r.sequence, r.detail) for r in await stored(store)]


async def test_sequence_per_writer(log: AuditLog, counting: CountingStore, clock: ManualClock) -> None:
    """Each writer counts from 1, and a new process of the same writer goes on where the last one stopped."""
    await log.record(entry("one"), entry("two"))
    await AuditLog(counting, "other", KEY, clock).record(entry("three"))
    await AuditLog(counting, "custodian", KEY, clock).record(entry("four"))

    assert [("custodian", 1), ("custodian", 2), ("custodian", 3), ("other", 1)] == [
        (row.writer, row.sequence) for row in await stored(counting)
    ]


async def test_mac_is_as_documented(log: AuditLog, store: Store, clock: ManualClock) -> None:
    """Law 15: the MAC is HMAC-SHA256 over the label and the canonical JSON that the module describes."""
    await log.record(AuditEntry("key-opened", "tenant", None, {"b": "ü", "a": [1, None, True]}))
    (row,) = await stored(store)
    text = (
        '{"at":"2026-01-01T00:00:00.000000+00:00","detail":{"a":[1,null,true],"b":"ü"},"kind":"key-opened",'
        '"policy_id":null,"sequence":1,"tenant_id":"tenant","writer":"custodian"}'
    )

    assert json.loads(text)["detail"] == row.detail
    assert hmac.new(KEY, b"twinlock.audit.v1\0" + text.encode(), sha256).digest() == row.mac


async def test_changed_rows_are_not_genuine(log: AuditLog, store: Store) -> None:
    """Law 15: an entry that is changed or moved in any field no longer fits its MAC."""
    await log.record(entry("one"))
    (row,) = await stored(store)
    changes: list[dict[str, object]] = [
        {"writer": "other"},
        {"sequence": 2},
        {"kind": "x"},
        {"tenant_id": None},
        {"policy_id": "q"},
        {"detail": {"name": "two"}},
        {"mac": bytes(32)},
    ]

    assert is_genuine(SecretKey(KEY), row)
    for change in changes:
        changed = SimpleNamespace(**{**row._asdict(), **change})

        assert not is_genuine(KEY, changed)


async def test_group_commit(log: AuditLog, counting: CountingStore) -> None:
    """Callers that wait at the same time share one transaction."""
    async with asyncio.TaskGroup() as group, counting.gate:
        for number in range(20):
            group.create_task(log.record(entry(str(number))))
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    assert 1 == counting.begun
    assert list(range(1, 21)) == [row.sequence for row in await stored(counting)]


async def test_cancelled_leader_strands_nobody(log: AuditLog, counting: CountingStore) -> None:
    """A caller that is cancelled while it writes for others leaves their entries to the next in turn."""
    async with asyncio.TaskGroup() as group:
        async with counting.gate:
            leader = group.create_task(log.record(entry("leader")))
            follower = group.create_task(log.record(entry("follower")))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            leader.cancel()
            await asyncio.sleep(0)
        await follower

    assert [(1, "follower")] == [(row.sequence, row.detail["name"]) for row in await stored(counting)]


async def test_law_15_failure_is_the_callers(log: AuditLog, counting: CountingStore) -> None:
    """Law 15: an entry that can't be written raises at its caller, is not written later, and leaves no gap."""
    counting.fail = True
    with pytest.raises(OSError, match="disk"):
        await log.record(entry("lost"))
    counting.fail = False
    await log.record(entry("kept"))

    assert [(1, "kept")] == [(row.sequence, row.detail["name"]) for row in await stored(counting)]


async def test_append_goes_with_its_change(log: AuditLog, store: Store) -> None:
    """An entry that was added to a unit of work rolls back with it, and its number is used again."""
    with suppress(LookupError):
        async with store.begin(CAUSE) as unit:
            await log.append(unit, entry("rolled back"))
            raise LookupError
    async with store.begin(CAUSE) as unit:
        await log.append(unit, entry("kept"), entry("too"))
        await log.append(unit)

    assert [(1, "kept"), (2, "too")] == [(row.sequence, row.detail["name"]) for row in await stored(store)]


def test_no_float() -> None:
    """What has no canonical form is refused where the entry is made, before it could hold up others."""
    with pytest.raises(TypeError, match="seconds"):
        AuditEntry("x", None, None, {"seconds": 1.5})  # type: ignore[dict-item]  # the promise is about wrong types
