"""`twinlock init`: make a home, or repair one whose making was interrupted; a second run changes nothing."""

import asyncio
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer
from sqlalchemy import insert, select

from cli import home
from cli.command import homeless
from cli.failures import TimedOut
from cli.home import INIT_LOCK, SETTINGS
from cli.output import Result, fields
from cli.session import Session
from cli.setting_rules import EMBEDDED
from cli.settings import Settings
from cli.settling import EmbeddedSettling
from cli.wiring import Parts, clock_for, open_store
from cli.wiring.embedded import embedded
from cli.wiring.marking import make_mark
from events.home_lock import POLL_SECONDS, FileLock
from schemas.identifiers import PROVIDER, SERVICE_POLICIES, AvailabilityMode, Workload
from schemas.requests import PolicyRequested
from twinlock.approvals.installation import ensure_installation
from twinlock.clock import SystemClock
from twinlock.custody.policies import find_policy
from twinlock.errors import NotFound, TwinlockError
from twinlock.store import granting, migrate
from twinlock.store.tables.tenants import tenants
from twinlock.store.unit import Cause, new_id
from twinlock.vaults.administration import KeyExists

VAULTS = ("local://provider-a", "local://provider-b")


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    homeless(app, "init")(init)


def init(settings: Settings, timeout: float, shows: bool) -> Result:
    """Make a home: database, secrets, the provider's keys and policy."""
    with asyncio.Runner() as runner:
        changed = runner.run(make_home(settings, timeout))
    document = {
        "home": str(settings.home),
        "database": settings.shown_database,
        "broker": settings.shown_broker,
        "changed": changed,
    }
    said = "is ready" if changed else "was ready already"
    return Result(document, [f"{settings.home} {said}", fields(document)])


async def make_home(settings: Settings, timeout: float) -> bool:
    """Make a home and say whether anything was missing; one process at a time does, and the others find it made."""
    home.prepare(settings.home)
    with FileLock(settings.home / INIT_LOCK) as lock:
        try:
            async with asyncio.timeout(timeout):
                while not lock.try_acquire():
                    await SystemClock().sleep(POLL_SECONDS)
        except TimeoutError:
            raise TimedOut("another init of this home does not end", hint="stop it, then run init again") from None
        return await _init(settings, timeout)


async def _init(settings: Settings, timeout: float) -> bool:
    home.make_audit_key(settings.home)
    if not settings.is_fleet:  # there each is made where its worker is enrolled, for that worker alone
        home.make_checkpoint_key(settings.home / home.SECRETS, settings.home)
        home.make_certificate_key(settings.home / home.SECRETS, settings.home)
    written = _write_settings(settings.home / SETTINGS)
    clock = clock_for(settings)
    async with open_store(settings, clock) as store:
        before = await migrate.current(store.engine)
        migrated = await migrate.upgrade(store.engine)
        await granting.grant(store.engine)
        async with store.begin(Cause(new_id())) as unit:
            migrated |= await ensure_installation(unit)
        await make_mark(settings.home, store, before)
        # The provider's own keys are made here and now, whatever carries the events later.
        async with embedded(settings, clock, store) as parts:
            made = await _make_provider(parts, timeout)
    return written or migrated or made


async def _make_provider(parts: Parts, timeout: float) -> bool:
    changed = await _add_tenant(parts)
    for workload in Workload:
        if not await _has_policy(parts, workload):
            await _make_policy(parts, workload, timeout)
            changed = True
    return changed


async def _make_policy(parts: Parts, workload: Workload, timeout: float) -> None:
    first, second = (f"{vault}/service-{workload}" for vault in VAULTS)
    async with asyncio.TaskGroup() as group:
        for uri in (first, second):
            group.create_task(_make_key(parts, uri))
    wanted = PolicyRequested(
        tenant=PROVIDER,
        name=SERVICE_POLICIES[workload],
        workload=workload,
        mode=AvailabilityMode.STANDARD,
        keys=(first, second),
    )
    asked = await Session(parts, EmbeddedSettling(parts), timeout).ask(wanted)
    # An interrupted first run may have left the same request: whichever of the two was first has made the policy.
    if not await _has_policy(parts, workload):
        detail = asked.answer.detail if asked.answer else "no answer"
        raise TwinlockError(f"the service policy could not be made: {detail}", hint="mend it, then run: twinlock init")


async def _add_tenant(parts: Parts) -> bool:
    async with parts.store.begin(Cause(new_id())) as unit:
        if await unit.row(select(tenants.c.id).where(tenants.c.name == PROVIDER)) is not None:
            return False
        row: dict[str, Any] = {"id": new_id(), "name": PROVIDER, "trial": False, "created_at": unit.clock.now()}
        await unit.execute(insert(tenants).values(row))
        return True


async def _has_policy(parts: Parts, workload: Workload) -> bool:
    async with parts.store.read() as reader:
        try:
            await find_policy(reader, SERVICE_POLICIES[workload])
        except NotFound:
            return False
    return True


async def _make_key(parts: Parts, uri: str) -> None:
    with suppress(KeyExists):
        await parts.vault.create_root_key(uri)


def _write_settings(path: Path) -> bool:
    """Write the file, unless there is one: what is in it is its owner's."""
    if path.exists():
        return False
    path.write_text(defaults(), encoding="utf-8")
    return True


def defaults() -> str:
    """Return a settings file that says nothing: every default, as a comment."""
    lines = ["# Settings of this home. Flags win, then TWINLOCK_* in the environment, then this file."]
    lines += ["", f'# broker = "{EMBEDDED}"', '# logs = "text"']
    for name in ("approvals", "aws", "azure", "content", "cost", "custody", "openbao", "pkcs11", "tracing", "workers"):
        lines += ["", f"# [{name}]", *_numbers(asdict(Settings.model_fields[name].default), f"{name}.")]
    return "\n".join(lines) + "\n"


def _numbers(section: dict[str, Any], prefix: str) -> list[str]:
    lines, nested = [], []
    for name, value in section.items():
        if isinstance(value, dict):
            nested += ["", f"# [{prefix}{name}]", *_numbers(value, f"{prefix}{name}.")]
        elif value is not None:
            lines.append(f"# {name} = {_shown(value)}")
    return lines + nested


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    return str(list(value) if isinstance(value, tuple) else value).lower()  # true and false, as TOML has them
