"""`twinlock policy revoke` and `restore`: the tenant's kill switch on our side.

Both change the database themselves, so that they work while the broker is away; custodians look for themselves.
"""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import typer

from cli import home
from cli.command import command
from cli.commands import names
from cli.failures import TimedOut
from cli.options import PolicyName
from cli.output import Result
from cli.session import Session
from schemas.identifiers import PolicyState
from schemas.names import OPERATOR
from twinlock.custody import revocations
from twinlock.custody.audit import AuditLog
from twinlock.custody.policies import find_policy
from twinlock.custody.revocations import Change
from twinlock.custody.settings import CustodySettings
from twinlock.custody.settling import Settled, settled

_AUDIT_WRITERS = {True: OPERATOR, False: "embedded"}


def register(noun: typer.Typer) -> None:
    """Add the commands to the noun."""
    command(noun, "revoke")(revoke)
    command(noun, "restore")(restore)


async def revoke(session: Session, policy: PolicyName) -> Result:
    """End every use of a policy, whatever its keys answer; done when no custodian serves it any more."""
    change = await _change(session, policy, PolicyState.REVOKED)
    try:
        async with asyncio.timeout(session.remaining):
            done = await settled(session.parts.store, session.parts.clock, change.number, _custody(session))
    except TimeoutError:
        raise TimedOut(
            f"policy {change.policy} is revoked, but not every custodian has confirmed it yet",
            hint=f"each does, or serves nothing any more, within {_custody(session).epoch_seconds:g} s",
        ) from None
    until = done.at + timedelta(seconds=_custody(session).keep_seconds)
    return Result(
        _document(change, done, until),
        [
            f"policy {change.policy} is revoked: {_custodians(done)}",
            f"callers may still hold keys of its containers until {until.isoformat(timespec='seconds')}",
        ],
    )


async def restore(session: Session, policy: PolicyName) -> Result:
    """Lift a revocation; from then on the policy's keys decide again."""
    change = await _change(session, policy, PolicyState.ACTIVE)
    return Result(
        _document(change, Settled(0, 0, session.parts.clock.now()), None), [f"policy {change.policy} is active"]
    )


async def _change(session: Session, reference: str, state: PolicyState) -> Change:
    parts = session.parts
    async with parts.store.read() as reader:
        policy = await find_policy(reader, names.policy_reference(reference))
    async with parts.store.begin(session.cause) as unit:
        change = await revocations.change(unit, policy.id, state, _audit(session))
        if not parts.settings.is_fleet and change.number:
            await revocations.announce(unit, change.number)  # in a fleet workers alone tell facts: a custodian does
    return change


def _audit(session: Session) -> AuditLog | None:
    parts = session.parts
    if not home.has_audit_key(parts.settings.home):
        return None  # the row of the revocation tells as much, for good
    writer = _AUDIT_WRITERS[parts.settings.is_fleet]
    return AuditLog(parts.store, writer, home.read_audit_key(parts.settings.home), parts.clock)


def _custody(session: Session) -> CustodySettings:
    return session.parts.settings.custody


def _document(change: Change, done: Settled, until: datetime | None) -> dict[str, Any]:
    return {
        "policy": change.policy.id,
        "state": change.policy.state.value,
        "number": change.number,
        "evicted": done.evicted,
        "lapsed": done.lapsed,
        "callers_until": None if until is None else until.isoformat(timespec="seconds"),
    }


def _custodians(done: Settled) -> str:
    if not done.evicted and not done.lapsed:
        return "no custodian runs"
    return f"{done.evicted} of {done.evicted + done.lapsed} custodians dropped its key, the others serve nothing"
