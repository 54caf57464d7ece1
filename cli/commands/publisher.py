"""`twinlock publisher`: which logins of the broker may ask for what."""

import re
from typing import Annotated, Any

import typer

from cli.command import command
from cli.commands import names
from cli.failures import UsageFault
from cli.output import Result, listing
from cli.session import Session
from cli.wiring.auditing import note
from events.authority import publishers
from events.authority.publishers import Registration
from schemas.registry import REQUESTS
from schemas.requests import AssignmentRequested, RefreshRequested
from schemas.routing import answer_key

ALL = "*"  # no tenant's name
DEFAULT = (AssignmentRequested.type, RefreshRequested.type)
_USER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,99}")
_SHORT = {request.type.split(".")[1]: request.type for request in REQUESTS}
_TYPES = {request.type: request.type for request in REQUESTS} | _SHORT | {"assign": AssignmentRequested.type}

noun = typer.Typer(help="Outside publishers: who may ask for what, and for which tenants.")

User = Annotated[str, typer.Argument(metavar="USER", help="The publisher's login at the broker.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.add_typer(noun, name="publisher")


@command(noun, "add")
async def add(
    session: Session,
    user: User,
    tenant: Annotated[
        list[str] | None, typer.Option("--tenant", metavar="T", help="A tenant; may be repeated.")
    ] = None,
    all_tenants: Annotated[bool, typer.Option("--all-tenants", help="Every tenant, also later ones.")] = False,
    may: Annotated[
        list[str] | None,
        typer.Option(
            "--may", metavar="TYPE", help="What it may ask for; may be repeated; default: assignment and refresh."
        ),
    ] = None,
) -> Result:
    """Register a publisher; adding it again replaces what it had."""
    if bool(tenant) == all_tenants:
        raise UsageFault("say for which tenants, or for all of them", hint="--tenant TENANT, or --all-tenants")
    wanted = Registration(
        _user(user),
        tuple(names.tenant_name(name) for name in tenant or ()),
        all_tenants,
        tuple(_type(text) for text in may or ()) or DEFAULT,
    )
    document = _document(wanted)
    async with session.parts.store.begin(session.cause) as unit:
        await publishers.register(unit, wanted)
        given = {"tenants": document["tenants"], "may": document["may"]}
        await note(session.parts, unit, "publisher-added", user=user, **given)
    return Result(document, [f"publisher {user} may ask for {_shown(document['may'])} for {_whom(document)}"])


@command(noun, "list")
async def show_all(session: Session) -> Result:
    """List the publishers."""
    async with session.parts.store.read() as reader:
        found = [_document(registration) for registration in await publishers.listing(reader)]
    return listing(found, ("user", "tenants", "may", "answers"), "no publishers")


@command(noun, "remove")
async def remove(session: Session, user: User) -> Result:
    """Take all rights from a publisher; what was accepted before is still carried out."""
    async with session.parts.store.begin(session.cause) as unit:
        await publishers.remove(unit, user)
        await note(session.parts, unit, "publisher-removed", user=user)
    return Result({"user": user, "removed": True}, [f"removed publisher {user}"])


def _document(registration: Registration) -> dict[str, Any]:
    return {
        "user": registration.user,
        "tenants": [ALL] if registration.all_tenants else sorted(set(registration.tenants)),
        "all_tenants": registration.all_tenants,
        "may": sorted(set(registration.may)),
        "answers": answer_key(registration.user, "*"),
    }


def _shown(types: list[str]) -> str:
    return ", ".join(event_type.split(".")[1] for event_type in types)


def _whom(document: dict[str, Any]) -> str:
    return "all tenants" if document["all_tenants"] else ", ".join(document["tenants"])


def _user(text: str) -> str:
    if not _USER.fullmatch(text):
        hint = "up to 100 letters, digits, dots, dashes, underscores and @; it begins with a letter or a digit"
        raise UsageFault(f"{text[:100]!a} is not a login", hint=hint)
    if text in publishers.RESERVED:
        refused = publishers.ReservedLogin(text)
        raise UsageFault(refused.detail, hint=refused.hint)
    return text


def _type(text: str) -> str:
    found = _TYPES.get(text)
    if found is None:
        hint = f"one of {', '.join(_SHORT)}, or a full type such as {DEFAULT[0]}"
        raise UsageFault(f"{text[:100]!a} is no type of request", hint=hint)
    return found
