"""The end of a purge: the availability keys, one after the other, when nothing else is left, and the certificate."""

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

from sqlalchemy import select, update

from twinlock.approvals.rows import Approval
from twinlock.approvals.telling import purge_alert
from twinlock.crashpoints import CrashPoint, reach
from twinlock.custody.audit.entries import entry
from twinlock.custody.audit.log import AuditEntry, AuditLog, Scalar
from twinlock.custody.decision import AvailabilityKeyState
from twinlock.custody.lifecycle import purging
from twinlock.custody.port import Asker, Recovering
from twinlock.custody.revocation.revocations import Change
from twinlock.keys.ports import Destruction
from twinlock.keys.signing import SigningKey
from twinlock.purging import rows
from twinlock.purging.certifying import DESTROYED, certify
from twinlock.purging.rows import Purge, Stage, availability_of
from twinlock.store.tables.content import container_keys
from twinlock.store.tables.custody import availability_keys, policy_key_copies
from twinlock.store.unit import Reader, StaleRead, Store, Unit

_GONE = AvailabilityKeyState.DESTROYED.value
_PENDING = "pending"  # nothing can use it, and its vault keeps it until `final_at`


@dataclass(frozen=True, slots=True)
class DestroyedKey:
    """Hold an availability key that its vault has destroyed, or is about to."""

    uri: str
    destruction: Destruction


@dataclass(frozen=True, slots=True)
class Written:
    """Hold a certificate that is signed, and when it can be issued again without `pending`, if that is left."""

    certificate: bytes
    final_at: datetime | None


class KeyPurger:
    """Destroy the availability keys of a policy and certify the purge; `key` signs."""

    def __init__(self, store: Store, recovering: Recovering, audit: AuditLog, key: SigningKey) -> None:
        self._store = store
        self._recovering = recovering
        self._audit = audit
        self._key = key

    async def plan(self, approval: Approval, purge: Purge, asker: Asker) -> DestroyedKey | Written:
        """Destroy the next key that is not gone for good as far as we know, or certify."""
        async with self._store.read() as reader:
            if await _has_more(reader, purge.policy_id):
                raise StaleRead  # the availability keys come last, whatever a row says
        now = self._store.clock.now()
        for each in availability_of(purge):
            if each["state"] == AvailabilityKeyState.PRESENT.value or _is_due(each, now):
                done = await self._recovering.destroy_availability_key(purge.policy_id, each["uri"], asker)
                reach(CrashPoint.PURGE_KEY_DESTROYED)
                return DestroyedKey(each["uri"], done)
        return await self._certify(approval, purge, asker)

    async def note(self, unit: Unit, purge: Purge, key: DestroyedKey) -> None:
        """Write down that a key is destroyed."""
        state = _GONE if key.destruction.is_final else _PENDING
        final_at = key.destruction.final_at
        told = {"uri": key.uri, "state": state, "final_at": None if final_at is None else final_at.isoformat()}
        keys = [told if each["uri"] == key.uri else each for each in availability_of(purge)]
        row = availability_keys.c
        gone = update(availability_keys).where(row.policy_id == purge.policy_id, row.uri == key.uri)
        await unit.execute(gone.values(state=_GONE))
        await rows.move_on(unit, purge, purge.stage, keys={**purge.keys, "availability_keys": keys})

    async def keep(self, unit: Unit, approval: Approval, purge: Purge, written: Written) -> None:
        """Store a certificate; with the first one the policy is purged."""
        change = await purging.settle(unit, purge.policy_id) if purge.stage is Stage.KEYS else None
        stage = Stage.DONE if written.final_at is None else Stage.PENDING
        finished = unit.clock.now() if stage is Stage.DONE else None
        await rows.move_on(unit, purge, stage, certificate=written.certificate, finished_at=finished)
        said = "and its certificate is final" if stage is Stage.DONE else "and a key waits for its final destruction"
        unit.emit(purge_alert(approval.tenant, purge.policy_id, f"{approval.subject}: it is purged, {said}"))
        await self._audit.append(unit, _certified(unit, approval, written, change))

    async def _certify(self, approval: Approval, purge: Purge, asker: Asker) -> Written:
        await self._audit.record(
            entry(
                DESTROYED,
                asker,
                tenant_id=approval.tenant_id,
                policy_id=purge.policy_id,
                request=purge.id,
                containers=purge.containers,
                items=purge.items,
                objects=purge.objects,
            )
        )
        keys = availability_of(purge)
        async with self._store.read() as reader:
            issued = await certify(reader, approval, purge, keys, self._store.clock.now(), self._key)
        ends = [datetime.fromisoformat(each["final_at"]) for each in keys if each["final_at"] is not None]
        return Written(issued.text, max(ends, default=None))


def _is_due(key: dict[str, Any], now: datetime) -> bool:
    return key["state"] == _PENDING and datetime.fromisoformat(key["final_at"]) <= now


async def _has_more(reader: Reader, policy_id: str) -> bool:
    left = (
        select(container_keys.c.container_id).where(container_keys.c.policy_id == policy_id),
        select(policy_key_copies.c.slot).where(policy_key_copies.c.policy_id == policy_id),
    )
    return any([await reader.row(query.limit(1)) is not None for query in left])


def _certified(unit: Unit, approval: Approval, written: Written, change: Change | None) -> AuditEntry:
    detail: dict[str, Scalar] = {
        "request": approval.id,
        "sender": unit.sender,
        "sha256": sha256(written.certificate).hexdigest(),
        "final": written.final_at is None,
    }
    if change is not None:
        detail["number"] = change.number
    return AuditEntry("purge-certified", approval.tenant_id, approval.policy_id, detail)
