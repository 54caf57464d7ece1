"""`twinlock recovery`: bring a policy whose root keys are lost onto two new ones, once two approvers have signed."""

from typing import Annotated, Any

import typer
from sqlalchemy import select

from cli.command import command
from cli.commands import names
from cli.commands.approval_documents import describe, how_to_sign, unwaited
from cli.failures import UsageFault
from cli.options import PolicyName, Reason
from cli.output import Failure, Result, fields
from cli.session import Session
from cli.wiring.vendors import check_key
from events.answers import Answer
from schemas.identifiers import MAX_DETAIL, RequestOutcome
from schemas.requests import RecoveryRequested
from twinlock.approvals.rows import Approval, find_approval
from twinlock.approvals.statement import Action, parse
from twinlock.errors import NotFound
from twinlock.store.tables.work import jobs
from twinlock.store.unit import Reader

noun = typer.Typer(help="Policies whose root keys are lost onto new ones.")

# What rewrapping does not do is said wherever it is offered.
ENDS = "The old root keys end through the service; who holds one and an old copy is stopped by re-encryption alone."


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.add_typer(noun, name="recovery")


@command(noun, "request", waits=True)
async def request(
    session: Session,
    policy: PolicyName,
    key: Annotated[list[str], typer.Option("--key", metavar="URI", help="A new root key; give two, in two vaults.")],
    reason: Reason,
    although_revoked: Annotated[
        bool, typer.Option("--although-revoked", help="Also where the policy is revoked, which it stays; it is signed.")
    ] = False,
) -> Result:
    """Ask two approvers to have a policy brought onto new root keys; refused while the old ones could still answer."""
    wanted = _wanted(session, names.policy_reference(policy), key, reason, although_revoked)
    asked = await session.ask(wanted)
    if asked.answer is None:
        return unwaited(session, asked.id)
    if asked.answer.outcome is not RequestOutcome.DONE:
        return _refused(policy, asked.answer)
    async with session.parts.store.read() as reader:
        approval = await find_approval(reader, asked.answer.answer["id"])
        document = await _document(reader, approval, session)
    return Result(document, [*how_to_sign(approval), ENDS])


def _wanted(session: Session, policy: str, keys: list[str], reason: str, although_revoked: bool) -> RecoveryRequested:
    if len(keys) != 2:
        raise UsageFault(f"a policy has two root keys, not {len(keys)}", hint="give --key twice, in two vaults")
    if not reason.strip() or len(reason) > MAX_DETAIL:
        raise UsageFault("a reason is needed", hint=f"write one, of up to {MAX_DETAIL} characters: --reason TEXT")
    for uri in keys:
        check_key(uri, session.parts.settings)
    return RecoveryRequested(policy=policy, keys=(keys[0], keys[1]), reason=reason, although_revoked=although_revoked)


def _refused(policy: str, answer: Answer) -> Result:
    failed, hint = answer.answer.get("failed", []), answer.answer.get("hint", "")
    document = {"id": None, "state": "refused", "approvals": 0, "failed": failed}
    return Result(document, (), Failure(f"no recovery of policy {policy}: {answer.detail}", hint))


@command(noun, "show")
async def show(
    session: Session, request: Annotated[str, typer.Argument(metavar="ID", help="The request's id.")]
) -> Result:
    """Show a recovery: how far it is, onto which keys, and what is in its way."""
    async with session.parts.store.read() as reader:
        approval = await find_approval(reader, request)
        if approval.action != Action.RECOVER:
            raise NotFound(f"request {request} is no recovery", hint=f"see: twinlock approval show {request}")
        document = await _document(reader, approval, session)
    return Result(document, [fields(document)])


async def _document(reader: Reader, approval: Approval, session: Session) -> dict[str, Any]:
    statement = parse(approval.statement)
    trouble = await reader.scalar(select(jobs.c.trouble).where(jobs.c.id == f"{Action.RECOVER.value}:{approval.id}"))
    return {
        **describe(approval, session.parts.clock.now()),
        "policy": approval.policy_id,
        "reason": statement.reason,
        "keys": [{"slot": each.slot, "uri": each.uri, "version": each.version} for each in statement.keys],
        "although_revoked": statement.although_revoked,
        "trouble": trouble or "",
    }
