"""A request for signatures as a document, and what to do with it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select

from cli.failures import TimedOut
from cli.output import Result
from cli.session import Session
from schemas.identifiers import ApprovalState
from twinlock.approvals.chain import NEEDED
from twinlock.approvals.rows import Approval, find_approval
from twinlock.custody.lifecycle.naming import made_by
from twinlock.store.tables.work import jobs
from workers.jobs import adopt
from workers.recovery_handler.carrying import job_id

_LOOK_SECONDS = 0.5


def describe(approval: Approval, now: datetime) -> dict[str, Any]:
    """Return what a request is about and how far it is; `due` is when what was signed takes effect, if later."""
    return {
        "id": approval.id,
        "action": approval.action,
        "tenant": approval.tenant,
        "subject": approval.subject,
        "state": approval.state_at(now).value,
        "approvals": len(approval.signed),
        "needed": NEEDED,
        "approved_by": [each.name for each in approval.signed],
        "requested": moment(approval.requested_at),
        "expires": moment(approval.expires_at),
        "due": None if approval.due is None else moment(approval.due),
    }


def unwaited(session: Session, asked: str) -> Result:
    """Return the id that a request's approval gets, where nobody waits for it to be looked at."""
    request = made_by(session.parts.store.source, asked)
    return Result({"id": request, "state": "requested", "approvals": 0}, [f"requested: {request}"])


def how_to_sign(approval: Approval) -> Sequence[str]:
    """Say how a request goes on."""
    shown = f"request {approval.id} ({approval.action} {approval.subject})"
    if approval.state is ApprovalState.APPROVED and approval.due is not None:
        return [
            f"{shown} is approved, and carried out from {moment(approval.due)} on",
            f"until then it can be cancelled: twinlock approval cancel {approval.id}",
        ]
    if approval.state is not ApprovalState.OPEN:
        return [f"{shown} is {approval.state.value}"]
    return [
        f"{shown} has {len(approval.signed)} of {NEEDED} signatures",
        f"sign it: twinlock approval approve {approval.id} --by NAME --private-key FILE",
    ]


async def carried_out(session: Session, approval: Approval) -> Approval:
    """Return an approved request when its worker has carried it out, or has said until when that is put off."""
    await session.settle()
    while approval.state is ApprovalState.APPROVED and approval.due is None:
        async with session.parts.store.read() as reader:
            approval = await find_approval(reader, approval.id)
            trouble = await reader.scalar(select(jobs.c.trouble).where(jobs.c.id == f"{approval.action}:{approval.id}"))
        if not session.remaining:
            raise TimedOut(
                f"request {approval.id} is approved and not carried out yet" + (f": {trouble}" if trouble else ""),
                hint="nothing is lost: it is carried out as soon as it can be, while it is valid",
            )
        if approval.state is ApprovalState.APPROVED:
            await session.parts.clock.sleep(_LOOK_SECONDS)
    await session.settle()
    return await take_along(session, approval)


async def take_along(session: Session, approval: Approval) -> Approval:
    """Return a request once what its worker put off and is due by now is done, too; a fleet goes on by itself."""
    if not session.parts.settings.is_fleet:
        async with session.parts.store.begin(session.cause) as unit:
            due = await adopt(unit, job_id(approval.action, approval.id))
        if due:
            await session.settle()
    async with session.parts.store.read() as reader:
        return await find_approval(reader, approval.id)


def moment(at: datetime) -> str:
    """Return a moment for people and programs."""
    return at.isoformat(timespec="seconds")
