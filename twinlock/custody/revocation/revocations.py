"""Revocations: rows with a rising number, the newest of which is the epoch (law 8), and the policy's state.

A policy whose purge is only asked for can be revoked, too: it goes on being purged, and is revoked if that is given up.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Row, func, insert, select, update

from schemas.facts import AlertRaised, PolicyRestored, PolicyRevoked
from schemas.identifiers import PROVIDER, Audience, PolicyState, Severity
from twinlock.custody.audit.log import AuditEntry, AuditLog
from twinlock.custody.policies import Policy
from twinlock.custody.rows import read_policy
from twinlock.errors import TwinlockError
from twinlock.store.tables.custody import policies, revocations
from twinlock.store.tables.purges import purges
from twinlock.store.unit import Reader, Unit

FILLED = ":"  # what a number stands for that only keeps its place

_STATES = (PolicyState.ACTIVE, PolicyState.REVOKED)


@dataclass(frozen=True, slots=True)
class Change:
    """Hold a policy as it stands after a revocation, or the lifting of one, and the number of that."""

    policy: Policy
    number: int


async def change(unit: Unit, policy_id: str, state: PolicyState, audit: AuditLog | None) -> Change:
    """Revoke a policy or restore it, and return the number that custodians have to confirm; a repeat changes nothing.

    Raise a `TwinlockError` where that can't be. Numbers are seen in their order: each is taken and committed before the
    next one, so that whoever has read one has read all below it.
    """
    policy = await lock(unit, policy_id)
    await _check(unit, policy, state)
    held = policy.state is PolicyState.PURGING
    stands = await before_purge(unit, policy_id) if held else policy.state
    known = await unit.scalar(select(func.max(revocations.c.number)).where(revocations.c.policy_id == policy_id))
    if stands is state and (known or state is PolicyState.ACTIVE):
        return Change(policy, known or 0)
    changed = await move(unit, policy, state, held=held)
    if audit is not None:
        await audit.append(unit, _entry(policy, state, changed.number, unit.sender))
    return changed


async def lock(unit: Unit, policy_id: str) -> Policy:
    """Return a policy as it stays for the rest of the transaction, with the right to take the next number."""
    await lock_numbers(unit)
    return await read_policy(unit, policy_id, lock=True)


async def lock_numbers(unit: Unit) -> None:
    """Let nobody else take a number for the rest of the transaction."""
    if unit.connection.dialect.name == "postgresql":  # SQLite has one writer anyway
        await unit.execute(select(func.pg_advisory_xact_lock(func.hashtextextended("revocations", 0))))


async def move(unit: Unit, locked: Policy, state: PolicyState, *, told: bool = False, held: bool = False) -> Change:
    """Give a locked policy another state under the next number; custodians drop its keys before they confirm that.

    With `told` no event tells of it here, because others do. With `held` the policy stays as it is, and gets this state
    when its purge is given up.
    """
    number = await newest(unit) + 1
    values = {"number": number, "policy_id": locked.id, "state": state.value, "at": unit.clock.now()}
    await unit.execute(insert(revocations).values(**values, publisher=unit.sender, announced=told))
    moved = {"state": (locked.state if held else state).value, "version": locked.version + 1}
    await unit.execute(update(policies).where(policies.c.id == locked.id).values(moved))
    return Change(await read_policy(unit, locked.id), number)


async def before_purge(reader: Reader, policy_id: str) -> PolicyState:
    """Return the state that a policy gets back whose purge is given up: as it was, or revoked since."""
    row = revocations.c
    states = [state.value for state in _STATES]
    query = select(row.state).where(row.policy_id == policy_id, row.state.in_(states)).order_by(row.number.desc())
    found = await reader.scalar(query.limit(1))
    return PolicyState(found) if found else PolicyState.ACTIVE


async def _check(reader: Reader, policy: Policy, state: PolicyState) -> None:
    if policy.tenant == PROVIDER:
        raise TwinlockError(
            f"policy {policy} is the provider's own, which no tenant revokes", hint="see: twinlock policy list"
        )
    if policy.state in _STATES:
        return
    verb = "revoked" if state is PolicyState.REVOKED else "restored"
    if policy.state is PolicyState.PURGED:
        raise TwinlockError(f"policy {policy} is purged and can't be {verb}", hint="a purge is final")
    begun = select(purges.c.id).where(purges.c.policy_id == policy.id, purges.c.begun_at.is_not(None))
    if (purge := await reader.scalar(begun.limit(1))) is not None:
        raise TwinlockError(
            f"policy {policy} is being purged and can't be {verb}: that has begun",
            hint=f"it serves nobody any more; see: twinlock purge show {purge}",
        )
    if state is PolicyState.ACTIVE:
        raise TwinlockError(
            f"policy {policy} is purging and can't be restored",
            hint="cancel the purge first, which gives it back as it was; see: twinlock approval list --open",
        )


def _entry(policy: Policy, state: PolicyState, number: int, who: str) -> AuditEntry:
    kind = "policy-revoked" if state is PolicyState.REVOKED else "policy-restored"
    return AuditEntry(kind, policy.tenant_id, policy.id, {"number": number, "publisher": who})


async def newest(reader: Reader) -> int:
    """Return the epoch: the newest number, 0 where nothing was ever revoked."""
    return await reader.scalar(select(func.max(revocations.c.number))) or 0


async def told(reader: Reader, number: int) -> str:
    """Say in a word what a number stands for, or nothing where there is none."""
    row = revocations.c
    found = await reader.row(select(row.policy_id, row.state).where(row.number == number))
    return "" if found is None else f"{found.state}:{found.policy_id}"


async def after(reader: Reader, number: int) -> Sequence[Row[tuple[int, str]]]:
    """Return number and policy of everything later than a number, in order."""
    row = revocations.c
    return await reader.rows(select(row.number, row.policy_id).where(row.number > number).order_by(row.number))


async def unannounced(reader: Reader) -> Sequence[int]:
    """Return the numbers of which no event tells yet."""
    row = revocations.c
    found = await reader.rows(select(row.number).where(row.announced.is_(False)).order_by(row.number))
    return [each.number for each in found]


async def announce(unit: Unit, number: int) -> AuditEntry | None:
    """Tell of a revocation or its lifting with an event and an alert, once; nothing depends on either.

    Return the entry for whoever has an audit log, as who revoked may have had none: only what is in it outlives a
    restore of the database.
    """
    row = revocations.c
    first = update(revocations).where(row.number == number, row.announced.is_(False)).values(announced=True)
    if not (await unit.execute(first)).rowcount:
        return None
    told = await unit.row(select(row.policy_id, row.state, row.publisher).where(row.number == number))
    assert told is not None  # noqa: S101  # it was updated just now
    policy, state = await read_policy(unit, told.policy_id), PolicyState(told.state)
    fact = PolicyRevoked if state is PolicyState.REVOKED else PolicyRestored
    unit.emit(fact(policy=policy.id, version=policy.version, tenant=policy.tenant, revocation=number))
    unit.emit(
        AlertRaised(
            kind=f"policy-{'revoked' if state is PolicyState.REVOKED else 'restored'}",
            severity=Severity.CRITICAL if state is PolicyState.REVOKED else Severity.WARNING,
            audience=Audience.CUSTOMER,
            tenant=policy.tenant,
            policy=policy.id,
            detail=f"policy {policy} is {state.value} since {told.publisher} said so",
        )
    )
    detail = {"number": number, "state": state.value, "publisher": told.publisher}
    return AuditEntry("revocation-announced", policy.tenant_id, policy.id, detail)
