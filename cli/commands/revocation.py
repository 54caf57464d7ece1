"""`twinlock policy revoke` and `restore`: the tenant's kill switch on our side.

Both change the database themselves, so that they work while the broker is away; custodians look for themselves.
"""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import typer

from cli.command import command
from cli.commands import names
from cli.commands.approval_documents import how_to_sign
from cli.failures import TimedOut
from cli.options import PolicyName, Reason
from cli.output import Result
from cli.session import Session
from cli.wiring.auditing import approvals_of, audit_of
from schemas.identifiers import PolicyState
from twinlock.approvals.rows import Approval
from twinlock.custody.policies import Policy, find_policy
from twinlock.custody.revocation import revocations
from twinlock.custody.revocation.revocations import Change
from twinlock.custody.revocation.settling import Settled, settled
from twinlock.custody.settings import CustodySettings


def register(noun: typer.Typer) -> None:
    """Add the commands to the noun."""
    command(noun, "revoke")(revoke)
    command(noun, "restore")(restore)


async def revoke(session: Session, policy: PolicyName) -> Result:
    """End every use of a policy, whatever its keys answer; done when no custodian serves it any more."""
    change = await _revoke(session, policy)
    try:
        async with asyncio.timeout(session.remaining):
            done = await settled(session.parts.store, session.parts.clock, change.number, _custody(session))
    except TimeoutError:
        raise TimedOut(
            f"policy {change.policy} {_stands(change)}, but not every custodian has confirmed it yet",
            hint=f"each does, or serves nothing any more, within {_custody(session).epoch_seconds:g} s",
        ) from None
    until = done.at + timedelta(seconds=_custody(session).keep_seconds)
    return Result(
        _document(change, done, until),
        [
            f"policy {change.policy} {_stands(change)}: {_custodians(done)}",
            f"callers may still hold keys of its containers until {until.isoformat(timespec='seconds')}",
        ],
    )


async def restore(session: Session, policy: PolicyName, reason: Reason = "") -> Result:
    """Lift a revocation, after which the policy's keys decide again; two approvers sign, where the tenant has them."""
    found = await _find(session, policy)
    lifted = await approvals_of(session.parts).restore(session.cause, found, reason)
    if isinstance(lifted, Approval):
        return _requested(found, lifted)
    document = {**_document(lifted, Settled(0, 0, session.parts.clock.now()), None), "id": None}
    return Result(document, [f"policy {lifted.policy} is active"])


def _requested(policy: Policy, approval: Approval) -> Result:
    document = {
        "policy": policy.id,
        "state": policy.state.value,
        "evicted": 0,
        "lapsed": 0,
        "callers_until": None,
        "id": approval.id,
        "approvals": len(approval.signed),
    }
    return Result(document, [f"policy {policy} stays revoked until two approvers have signed", *how_to_sign(approval)])


async def _find(session: Session, reference: str) -> Policy:
    async with session.parts.store.read() as reader:
        return await find_policy(reader, names.policy_reference(reference))


async def _revoke(session: Session, reference: str) -> Change:
    parts, policy = session.parts, await _find(session, reference)
    async with parts.store.begin(session.cause) as unit:
        # Without the key the row of the revocation tells as much, for good.
        change = await revocations.change(unit, policy.id, PolicyState.REVOKED, audit_of(parts))
        if not parts.settings.is_fleet and change.number:
            await revocations.announce(unit, change.number)  # in a fleet workers alone tell facts: a custodian does
    return change


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


def _stands(change: Change) -> str:
    if change.policy.state is PolicyState.PURGING:
        return "is being purged, and is revoked if that is given up"
    return "is revoked"


def _custodians(done: Settled) -> str:
    if not done.evicted and not done.lapsed:
        return "no custodian runs"
    return f"{done.evicted} of {done.evicted + done.lapsed} custodians dropped its key, the others serve nothing"
