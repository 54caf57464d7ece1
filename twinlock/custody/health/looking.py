"""Look at the descriptions of root keys from time to time, and tell in time what would end in a denial.

That is a key whose expiry date is near, and a version that wraps the policy key and is disabled while a newer one
serves. What a look found is kept, so that any custodian goes on where another stopped, and a finding is told once and
cleared once. A look says nothing about whether the key unwraps: probes do.
"""

import asyncio
import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, and_, insert, or_, select, update

from schemas.facts import AlertCleared, AlertRaised
from schemas.identifiers import PROVIDER, Audience, PolicyState, Severity, Slot
from twinlock.custody.guards import Guards
from twinlock.custody.operations import Account, Operation
from twinlock.custody.settings import CustodySettings
from twinlock.custody.unwrap import Vaults, no_answer
from twinlock.keys.ports import Clock, KeyDescription, VaultFailure
from twinlock.store.tables.custody import policies, root_key_looks, root_keys
from twinlock.store.tables.tenants import tenants
from twinlock.store.unit import Cause, Reader, Store, Unit, new_id

log = logging.getLogger(__name__)

KIND = "key-expiring"
LOOK_SECONDS = 60.0
_BATCH = 20  # looked at together: none waits for another's vault
_key, _look = root_keys.c, root_key_looks.c


@dataclass(frozen=True, slots=True)
class _Found:
    expires: datetime | None
    notice: str


class KeyLooks:
    """Look at root keys whose time has come."""

    def __init__(self, store: Store, vaults: Vaults, guards: Guards, clock: Clock, settings: CustodySettings) -> None:
        self._store = store
        self._vaults = vaults
        self._guards = guards
        self._clock = clock
        self._settings = settings

    async def look_due(self) -> int:
        """Look at every key that nobody has looked at for long, and return how many those were."""
        before = self._clock.now() - timedelta(seconds=self._settings.look_interval)
        async with self._store.read() as reader:
            rows = await reader.rows(_due(before))
        async with asyncio.TaskGroup() as group:
            for row in rows:
                group.create_task(self._look(row))
        return len(rows)

    async def _look(self, row: Row[Any]) -> None:
        found = None
        try:
            found = await self._found(row)
        except VaultFailure as failure:  # what that means, probes tell
            log.info("root key %s of policy %s could not be looked at: %s", row.slot, row.policy_id, failure.outcome)
        async with self._store.begin(Cause(new_id())) as unit:
            await self._keep(unit, row, found)

    async def _found(self, row: Row[Any]) -> _Found:
        newest = await self._describe(row, None)
        used = newest if newest.version == row.version else await self._describe(row, row.version)
        if not (newest.is_key(row.identity) or used.is_key(row.identity)):
            return _Found(None, "")  # another key under the name: it unwraps nothing, which probes tell
        days = timedelta(days=self._settings.expiry_days)
        return _Found(used.expires, notice_of(used, newest, self._clock.now(), days))

    async def _describe(self, row: Row[Any], version: str | None) -> KeyDescription:
        vault, deadline = self._vaults.of(row.uri), self._settings.vault_deadline
        with self._guards.around(row.uri, Account(row.tenant_id, row.policy_id), Operation.DESCRIBE):
            try:
                async with asyncio.timeout(deadline):
                    return await vault.describe(row.uri, version)
            except TimeoutError:
                raise no_answer(row.uri, deadline) from None

    async def _keep(self, unit: Unit, row: Row[Any], found: _Found | None) -> None:
        mine = and_(_look.policy_id == row.policy_id, _look.slot == row.slot)
        # The key's own row before the look's, which may not be there yet: two custodians tell one finding once.
        key = select(_key.uri).where(_key.policy_id == row.policy_id, _key.slot == row.slot)
        if await unit.scalar(key.with_for_update()) != row.uri:
            return  # it was replaced meanwhile
        known = await unit.row(select(root_key_looks).where(mine))
        was = known.notice if known else ""
        kept: dict[str, Any] = {"expires": known.expires if known else None, "notice": was}
        if found is not None:
            kept = {"expires": found.expires, "notice": found.notice}
            _tell(unit, row, was, found.notice)
        kept |= {"looked_at": unit.clock.now(), "version": row.version}
        if known is None:
            await unit.execute(insert(root_key_looks).values(policy_id=row.policy_id, slot=row.slot, **kept))
        else:
            await unit.execute(update(root_key_looks).where(mine).values(**kept))


def notice_of(used: KeyDescription, newest: KeyDescription, now: datetime, within: timedelta) -> str:
    """Say what somebody should know of the version that a policy uses, or nothing."""
    if not used.enabled and newest.enabled and newest.version != used.version:
        return f"version {used.version} is disabled and version {newest.version} serves: refresh the policy"
    if used.expires is not None and used.expires - now <= within:
        ends = "has expired on" if used.expires <= now else "expires on"
        return f"version {used.version} {ends} {used.expires.date().isoformat()}"
    return ""


def _tell(unit: Unit, row: Row[Any], was: str, notice: str) -> None:
    if notice == was:
        return
    about: dict[str, Any] = {
        "kind": KIND,
        "audience": Audience.ENGINEERING if row.tenant == PROVIDER else Audience.CUSTOMER,
        "tenant": row.tenant,
        "policy": row.policy_id,
        "slot": Slot(row.slot),
    }
    if not notice:
        unit.emit(AlertCleared(**about))
        return
    detail = f"policy {row.tenant}/{row.name}, root key {row.slot}: {notice}"
    unit.emit(AlertRaised(**about, severity=Severity.WARNING, detail=detail))
    log.warning("alert %s: %s", KIND, detail)


def _due(before: datetime) -> Any:
    seen = and_(_look.policy_id == _key.policy_id, _look.slot == _key.slot)
    due = or_(_look.looked_at.is_(None), _look.looked_at <= before, _look.version != _key.version)
    return (
        select(_key.policy_id, _key.slot, _key.uri, _key.version, _key.identity)
        .add_columns(policies.c.name, policies.c.tenant_id, tenants.c.name.label("tenant"))
        .join(policies, policies.c.id == _key.policy_id)
        .join(tenants, tenants.c.id == policies.c.tenant_id)
        .join(root_key_looks, seen, isouter=True)
        .where(policies.c.state == PolicyState.ACTIVE, due)
        .order_by(_look.looked_at, _key.policy_id, _key.slot)
        .limit(_BATCH)
    )


async def read_expiries(reader: Reader, policy_id: str) -> dict[Slot, datetime | None]:
    """Return when each root key of a policy expires, as far as somebody has looked."""
    rows = await reader.rows(select(_look.slot, _look.expires).where(_look.policy_id == policy_id))
    return {Slot(row.slot): row.expires for row in rows}
