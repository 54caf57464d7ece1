"""`twinlock purge`: destroy everything under a policy for good, and prove it."""

from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.command import command, homeless
from cli.commands import names
from cli.commands.approval_documents import how_to_sign, moment, take_along, unwaited
from cli.commands.purge_certificate import print_certificate, verified
from cli.failures import TimedOut, UsageFault
from cli.options import Contact, PolicyName, Reason
from cli.output import Failure, Result, Table, fields
from cli.session import Session
from cli.settings import Settings
from events.answers import Answer
from schemas.identifiers import ApprovalState, RequestOutcome
from schemas.requests import PurgeRequested
from twinlock.approvals.rows import Approval, find_approval
from twinlock.purging.rows import Purge, find_purge

noun = typer.Typer(help="Destroy everything under a policy for good.")

Id = Annotated[str, typer.Argument(metavar="ID", help="The purge's id, which is that of its approval.")]
_VERDICTS = ("slot", "uri", "outcome", "detail")


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.add_typer(noun, name="purge")


@command(noun, "request", waits=True)
async def request(session: Session, policy: PolicyName, reason: Reason, contact: Contact) -> Result:
    """Ask two approvers for a purge; refused unless both root keys are definitely denied."""
    for option, text in (("--reason", reason), ("--contact", contact)):
        if not text.strip() or not text.isprintable():
            raise UsageFault(f"{option} says nothing that can be read", hint="write one line of text")
    wanted = PurgeRequested(policy=names.policy_reference(policy), reason=reason, contact=contact)
    asked = await session.ask(wanted)
    if asked.answer is None:
        return unwaited(session, asked.id)
    if asked.answer.outcome is not RequestOutcome.DONE:
        return _refused(policy, asked.answer)
    document, approval = await _describe(session, asked.answer.answer["id"])
    said = f"policy {approval.subject} serves nobody from now on; the purge can be cancelled until it is carried out"
    return Result(document, [said, *how_to_sign(approval)])


@command(noun, "show")
async def show(session: Session, request: Id) -> Result:
    """Show how far a purge is."""
    async with session.parts.store.read() as reader:
        approval, purge = await find_approval(reader, request), await find_purge(reader, request)
    if approval.state in (ApprovalState.APPROVED, ApprovalState.DONE) and purge.finished_at is None:
        with suppress(TimedOut):  # then it shows how far it is
            await take_along(session, approval)
    document, _ = await _describe(session, request)
    return Result(document, [fields(document)])


@homeless(noun, "certificate")
def certificate(
    settings: Settings,
    timeout: float,
    shows: bool,
    request: Id,
    verify: Annotated[
        Path | None, typer.Option("--verify", metavar="FILE", help="Check this certificate; needs no installation.")
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="FILE", help="With --verify: the key that has to have signed."),
    ] = None,
) -> Result:
    """Print the certificate of a purge, or check one."""
    if verify is not None:
        return verified(request, verify, key)
    if key is not None:
        raise UsageFault("--key is for checking a certificate", hint="name the certificate: --verify FILE")
    return print_certificate(settings, timeout, request)


async def _describe(session: Session, request: str) -> tuple[dict[str, Any], Approval]:
    async with session.parts.store.read() as reader:
        approval, purge = await find_approval(reader, request), await find_purge(reader, request)
    return _document(approval, purge, purge.state(approval, session.parts.clock.now())), approval


def _document(approval: Approval, purge: Purge, state: str) -> dict[str, Any]:
    return {
        "id": approval.id,
        "policy": purge.policy_id,
        "subject": approval.subject,
        "state": state,
        "approvals": len(approval.signed),
        "approved_by": [each.name for each in approval.signed],
        "due": None if approval.due is None else moment(approval.due),
        "expires": moment(approval.expires_at),
        "begun": None if purge.begun_at is None else moment(purge.begun_at),
        "finished": None if purge.finished_at is None else moment(purge.finished_at),
        "containers": purge.containers,
        "items": purge.items,
        "objects": purge.objects,
        "verdicts": list(purge.verdicts["requested"]["root_keys"]),
    }


def _refused(policy: str, answer: Answer) -> Result:
    verdicts = answer.answer.get("verdicts", [])
    document = {"id": None, "policy": policy, "state": "refused", "approvals": 0, "due": None, "verdicts": verdicts}
    shown = [Table(_VERDICTS, [[each[name] for name in _VERDICTS] for each in verdicts])] if verdicts else []
    return Result(document, shown, Failure(answer.detail, answer.answer.get("hint", "")))
