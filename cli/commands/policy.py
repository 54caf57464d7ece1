"""`twinlock policy`: make policies, look at them, assign them, bring them onto rolled keys."""

from typing import Annotated, Any

import typer
from sqlalchemy import select

from cli.command import command
from cli.commands import names, revocation
from cli.commands.policy_documents import describe, name_of, view
from cli.failures import UsageFault
from cli.options import Geo, OptionalTenant, PolicyName, Tenant
from cli.output import Failure, Result, Table, listing
from cli.progress import items_bar
from cli.session import Asked, Session
from cli.wiring.vendors import check_key
from events.answers import Answer
from schemas.identifiers import PROVIDER, SERVICE_POLICIES, SERVICE_POLICY, AvailabilityMode, RequestOutcome, Workload
from schemas.requests import AssignmentRequested, PolicyRequested, RefreshRequested
from twinlock.custody.policies import find_policy, list_policies
from twinlock.errors import NotFound
from twinlock.store.tables.tenants import tenants
from twinlock.store.tables.work import assignment_outcomes

noun = typer.Typer(help="Data encryption policies.")

DEFAULT_MODES = {Workload.MAILBOX: AvailabilityMode.STANDARD, Workload.SITE: AvailabilityMode.RECOVERY_ONLY}
MOST_MAILBOXES = 500
SHOWN = 5
_NAMES = {Workload.MAILBOX: ("mailbox", "mailboxes"), Workload.SITE: ("site", "sites")}
# What rewrapping does not do is said wherever it is offered.
_REWRAPS = "Keys are rewrapped: that ends use through the service; an old key and an old copy end by `site move` alone."
_OF_SITES = "Mailboxes are re-encrypted; site keys are rewrapped, and `site move` re-encrypts."
_DOES = {Workload.MAILBOX: "re-encrypting", Workload.SITE: "rewrapping"}


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    revocation.register(noun)
    app.add_typer(noun, name="policy")


@command(noun, "create", waits=True)
async def create(
    session: Session,
    tenant: Tenant,
    name: Annotated[str, typer.Option("--name", metavar="N", help="The policy's name within its tenant.")],
    workload: Annotated[Workload, typer.Option("--workload", help="What it protects.")],
    key: Annotated[list[str], typer.Option("--key", metavar="URI", help="A root key; give two, in two vaults.")],
    mode: Annotated[
        AvailabilityMode | None,
        typer.Option("--mode", help="When the availability key may serve; standard for mailboxes, else recovery-only."),
    ] = None,
    geo: Geo = None,
) -> Result:
    """Make a policy; both keys are checked live first."""
    names.geo_of(workload, geo)
    names.tenant_name(tenant)
    names.policy_name(name)
    if len(key) != 2:
        raise UsageFault(f"a policy has two root keys, not {len(key)}", hint="give --key twice, in two vaults")
    for uri in key:
        check_key(uri, session.parts.settings)
    wanted = PolicyRequested(
        tenant=tenant,
        name=name,
        workload=workload,
        mode=mode or DEFAULT_MODES[workload],
        keys=(key[0], key[1]),
        geo=geo,
    )
    asked = await session.ask(wanted)
    if asked.answer is None:
        return _unwaited(asked)
    if asked.answer.outcome is not RequestOutcome.DONE:
        return _refused(wanted, asked.answer)
    said = asked.answer.answer
    document = await _show(session, said["policy"])
    shown: list[str | Table] = [f"made policy {name_of(document)}", *view(document)]
    return Result({**document, "warnings": said["warnings"]}, shown, warnings=said["warnings"])


def _refused(wanted: PolicyRequested, answer: Answer) -> Result:
    failed = answer.answer.get("failed", [])
    document = {
        "tenant": wanted.tenant,
        "name": wanted.name,
        "workload": wanted.workload.value,
        "geo": wanted.geo,
        "mode": wanted.mode.value,
        "state": "refused",
        "failed": failed,
    }
    line = f"policy {wanted.subject} was not made: {answer.detail}"
    return Result(document, (), Failure(line, "every check that failed is listed" if len(failed) > 1 else ""))


@command(noun, "list")
async def show_all(session: Session, tenant: OptionalTenant = None) -> Result:
    """List the policies."""
    now, rules = session.parts.clock.now(), session.parts.settings.custody.evidence
    async with session.parts.store.read() as reader:
        known = select(tenants.c.id).where(tenants.c.name == tenant)
        if tenant is not None and await reader.row(known) is None:
            raise NotFound(f"there is no tenant {tenant}", hint="see: twinlock tenant list")
        found = [await describe(reader, policy, now, rules) for policy in await list_policies(reader, tenant)]
    return listing(found, ("id", "tenant", "name", "mode", "state", "health", "assigned"), "no policies")


@command(noun, "show")
async def show(session: Session, policy: PolicyName) -> Result:
    """Show a policy."""
    document = await _show(session, policy)
    return Result(document, view(document))


async def _show(session: Session, reference: str) -> dict[str, Any]:
    now, rules = session.parts.clock.now(), session.parts.settings.custody.evidence
    async with session.parts.store.read() as reader:
        return await describe(reader, await find_policy(reader, reference), now, rules)


@command(noun, "assign", waits=True)
async def assign(
    session: Session,
    policy: PolicyName,
    mailbox: Annotated[list[str] | None, typer.Option("--mailbox", metavar="ADDRESS", help="A mailbox.")] = None,
    all_mailboxes: Annotated[bool, typer.Option("--all-mailboxes", help="All mailboxes of the tenant.")] = False,
    tenant: OptionalTenant = None,
    geo: Annotated[list[str] | None, typer.Option("--geo", metavar="G", help=f"All sites of a geo. {_REWRAPS}")] = None,
    all_geos: Annotated[bool, typer.Option("--all-geos", help="All sites of the tenant, in every geo.")] = False,
) -> Result:
    """Put mailboxes or sites under a policy and change their keys; `service` reverts them to the provider's keys."""
    if geo or all_geos:
        wanted = _assignment_of_sites(policy, geo or [], all_geos, tenant, bool(mailbox) or all_mailboxes)
    else:
        wanted = _assignment(policy, mailbox or [], all_mailboxes, tenant)
    if tenant is not None and policy not in SERVICE_POLICIES.values():
        await _check_owner(session, policy, tenant)
    asked = await session.ask(wanted, items_bar(_DOES[wanted.workload], session.shows))
    if asked.answer is None:
        return _unwaited(asked)
    if "job" not in asked.answer.answer:
        raise _declined(asked.answer)
    return await _assigned(session, wanted, asked.answer)


def _assignment_of_sites(
    policy: str, geos: list[str], everything: bool, tenant: str | None, mailboxes: bool
) -> AssignmentRequested:
    if mailboxes or bool(geos) == everything:
        raise UsageFault("it is not said which sites", hint="give --geo GEO, or --all-geos, and no mailboxes")
    if policy in SERVICE_POLICIES.values() and tenant is None:
        raise UsageFault("it is not said whose sites", hint="name the tenant: --tenant TENANT")
    if tenant is not None:
        names.tenant_name(tenant)
    named = tuple(dict.fromkeys(map(names.geo, geos)))
    return AssignmentRequested(policy=names.policy_reference(policy), tenant=tenant, geos=named, all_geos=everything)


def _assignment(policy: str, mailboxes: list[str], everything: bool, tenant: str | None) -> AssignmentRequested:
    if bool(mailboxes) == everything:
        raise UsageFault("it is not said which mailboxes", hint="give --mailbox ADDRESS, or --all-mailboxes")
    if len(set(mailboxes)) > MOST_MAILBOXES:
        raise UsageFault(f"at most {MOST_MAILBOXES} mailboxes at a time", hint="use several commands")
    if policy == SERVICE_POLICY and everything and tenant is None:
        raise UsageFault("it is not said whose mailboxes", hint="name the tenant: --tenant TENANT")
    if tenant is not None:
        names.tenant_name(tenant)
    addresses = tuple(dict.fromkeys(map(names.address, mailboxes)))
    reference = names.policy_reference(policy)
    return AssignmentRequested(policy=reference, tenant=tenant, mailboxes=addresses, all_mailboxes=everything)


async def _check_owner(session: Session, reference: str, tenant: str) -> None:
    async with session.parts.store.read() as reader:
        owner = (await find_policy(reader, reference)).tenant
    if owner != tenant and owner != PROVIDER:
        raise UsageFault(f"policy {reference} belongs to tenant {owner}", hint=f"leave out --tenant {tenant}")


async def _assigned(session: Session, wanted: AssignmentRequested, answer: Answer) -> Result:
    outcome = assignment_outcomes.c
    refused = select(outcome.container, outcome.reason).where(
        outcome.job_id == answer.answer["job"], outcome.outcome == "rejected"
    )
    async with session.parts.store.read() as reader:
        rows = await reader.rows(refused.order_by(outcome.container))
    assigned = answer.answer["assigned"]
    rejected = [{"container": row.container, "reason": row.reason} for row in rows]
    one, many = _NAMES[wanted.workload]
    shown = [f"{assigned} {one if assigned == 1 else many} assigned to {wanted.policy}"]
    return Result({"assigned": assigned, "rejected": rejected}, shown, _rejection(assigned, rejected, many))


def _rejection(assigned: int, rejected: list[dict[str, str]], what: str) -> Failure | None:
    if not rejected:
        return None
    named = "; ".join(f"{item['container']}: {item['reason']}" for item in rejected[:SHOWN])
    hint = f"{len(rejected) - SHOWN} more are in the output of --json" if len(rejected) > SHOWN else ""
    return Failure(f"{len(rejected)} of {assigned + len(rejected)} {what} rejected: {named}", hint)


@command(noun, "refresh", waits=True)
async def refresh(
    session: Session,
    policy: PolicyName,
    new_policy_key: Annotated[
        bool,
        typer.Option("--new-policy-key", help=f"Make a new policy key, and bring everything under it. {_OF_SITES}"),
    ] = False,
) -> Result:
    """Bring a policy onto the newest versions of its root keys, after a rotation in their vaults."""
    watch = items_bar("re-encrypting", session.shows)
    wanted = RefreshRequested(policy=names.policy_reference(policy), new_policy_key=new_policy_key)
    asked = await session.ask(wanted, watch)
    if asked.answer is None:
        return _unwaited(asked)
    if asked.answer.outcome is not RequestOutcome.DONE:
        raise _declined(asked.answer)
    document = await _show(session, policy)
    return Result(document, [f"refreshed policy {name_of(document)}", *view(document)])


def _unwaited(asked: Asked) -> Result:
    return Result({"id": asked.id}, [f"requested: {asked.id}"])


def _declined(answer: Answer) -> NotFound:
    return NotFound(answer.detail, hint=answer.answer.get("hint", ""))
