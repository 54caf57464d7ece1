"""`twinlock worker enroll`, `keys` and `retire`: whose signature the custodian accepts."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from cli import home
from cli.command import homeless
from cli.failures import UsageFault
from cli.output import Result, listing
from cli.settings import Settings
from cli.wiring import open_current
from cli.wiring.sealing import seal_before_leaving
from schemas.names import AUDIT_SEALER, OPERATOR, RECOVERY_HANDLER
from twinlock.custody.audit.log import AuditEntry, AuditLog
from twinlock.custody.callers import enrolment
from twinlock.keys.signing import fingerprint
from twinlock.store.unit import Cause, Store, Unit, new_id
from workers.roster import ROSTER

T = TypeVar("T")
CALLERS = (*ROSTER, OPERATOR)


def register(noun: typer.Typer) -> None:
    """Add the commands to the noun."""
    homeless(noun, "enroll")(enroll)
    homeless(noun, "keys")(keys)
    homeless(noun, "retire")(retire)


def enroll(
    settings: Settings,
    timeout: float,
    shows: bool,
    name: Annotated[str, typer.Argument(metavar="NAME", help=", ".join(CALLERS))],
    login: Annotated[str | None, typer.Option("--login", help="Its calls come from this broker login alone.")] = None,
    into: Annotated[
        Path | None, typer.Option("--into", metavar="FOLDER", help="Where its key lies; default: the home's secrets.")
    ] = None,
) -> Result:
    """Make a worker's signing key where there is none, and let the custodian know it; a repeat changes nothing."""
    if name not in CALLERS:
        raise UsageFault(f"there is no worker {name!a}", hint=f"workers: {', '.join(CALLERS)}")
    folder = into or settings.secrets_folder
    key = home.make_worker_key(folder, name)
    if name == AUDIT_SEALER:
        home.make_checkpoint_key(folder, settings.home)
    if name == RECOVERY_HANDLER:
        home.make_certificate_key(folder, settings.home)
    shown = fingerprint(key.public).hex()

    async def work(store: Store) -> bool:
        async with store.begin(Cause(new_id())) as unit:
            new = await enrolment.enroll(unit, name, key.public, login)
            if new:
                await _audit(settings, unit, store, "worker-enrolled", name, shown)
            return new

    new = _on_store(settings, timeout, work)
    said = "is enrolled" if new else "was enrolled already"
    document = {"name": name, "fingerprint": shown, "login": login, "changed": new}
    return Result(document, [f"{name} {said} with the key {shown}"])


def keys(settings: Settings, timeout: float, shows: bool) -> Result:
    """List the enrolled keys, retired ones included."""

    async def work(store: Store) -> list[enrolment.KnownKey]:
        async with store.read() as reader:
            return await enrolment.list_keys(reader)

    rows = [
        {"name": each.name, "fingerprint": each.fingerprint, "state": "retired" if each.retired else "live"}
        for each in _on_store(settings, timeout, work)
    ]
    return listing(rows, ("name", "fingerprint", "state"), "no worker is enrolled")


def retire(
    settings: Settings,
    timeout: float,
    shows: bool,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is.")],
    key: Annotated[str, typer.Argument(metavar="FINGERPRINT", help="As `worker keys` lists it.")],
) -> Result:
    """Let a key count no more, at once and for good: one that was lost, or of a replica that is gone."""

    async def work(store: Store) -> None:
        async with store.begin(Cause(new_id())) as unit:
            await enrolment.retire(unit, name, key)
            await _audit(settings, unit, store, "worker-key-retired", name, key)

    _on_store(settings, timeout, work)
    return Result({"name": name, "fingerprint": key, "state": "retired"}, [f"the key {key} of {name} is retired"])


def _on_store(settings: Settings, timeout: float, work: Callable[[Store], Awaitable[T]]) -> T:
    # Without a custodian: the operator's own key may be what is to be enrolled.
    async def opened() -> T:
        async with asyncio.timeout(timeout), open_current(settings) as store:
            try:
                return await work(store)
            finally:
                await seal_before_leaving(settings, store)

    with asyncio.Runner() as runner:
        return runner.run(opened())


async def _audit(settings: Settings, unit: Unit, store: Store, kind: str, name: str, key: str) -> None:
    # Where nothing can be written to the audit log, the row of the enrolment tells as much.
    if home.has_audit_key(settings.home):
        log = AuditLog(store, OPERATOR, home.read_audit_key(settings.home), store.clock)
        await log.append(unit, AuditEntry(kind, None, None, {"name": name, "fingerprint": key}))
