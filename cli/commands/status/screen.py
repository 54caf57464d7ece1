"""The screen of `twinlock status`: it opens with the four answers, and goes on with the details."""

from collections.abc import Mapping, Sequence
from typing import Any

import typer

from cli.command import command
from cli.commands import alerts
from cli.commands.policy_documents import describe, name_of
from cli.commands.status import details
from cli.commands.status.access import endangered, read_access
from cli.commands.status.waiting import distrusted, waiting
from cli.home import has_audit_key
from cli.output import Result, Table, fields
from cli.session import Session
from cli.wiring.marking import log_keys_of, marks_of
from events import dead_letters
from events.home_lock import HomeLock
from twinlock.approvals.rows import list_approvals
from twinlock.custody.audit.believing import ForgedCheckpoint
from twinlock.custody.fate import bound_seconds, revoked_bound_seconds
from twinlock.custody.policies import list_policies
from twinlock.custody.revocation import revocations
from twinlock.custody.revocation.mark import lacking, newest
from twinlock.store.unit import Reader
from workers.alert_emitter import reading

_LOCKED_OUT = ("policy", "who", "containers", "why", "since")
_ENDANGERED = ("policy", "containers", "why", "since", "seconds_left")
_RUNNING = ("kind", "tenant", "container", "done", "total", "per_second", "seconds_left", "ends", "trouble")
_WAITING = ("what", "tenant", "about", "due", "next")
_POLICIES = ("policy", "state", "health", "mode", "assigned", "objects_by_key_version")
_ALERTS = ("kind", "severity", "audience", "tenant", "count", "detail")
_CUSTODIANS = ("custodian", "serves", "epoch", "seconds_ago", "keys", "silent_vaults")
_KEYS = ("custodian", "policy", "generation", "opened_by", "expires")


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    command(app, "status")(status)


async def status(session: Session) -> Result:
    """Show who is locked out, who is about to be, what runs and until when, and what waits for a person."""
    async with session.parts.store.read() as reader:
        found = await _read(reader, session)
    home = {**_home(session), "epoch": found.pop("epoch")}
    if session.parts.settings.is_fleet:
        home["workers"], waits = await _in_broker(session)
        found["queues"] |= waits
    return Result({**home, **found}, [*_four(found), fields(home), *_rest(found)])


async def _read(reader: Reader, session: Session) -> dict[str, Any]:
    now, settings = session.parts.clock.now(), session.parts.settings.custody
    policies = await list_policies(reader)
    access = [await read_access(reader, policy) for policy in policies]
    custodians = await details.custodians(reader, now, settings)
    told = [alerts.describe(row) for row in await reading.listing(reader, only_open=True)]
    work = await details.work(reader, now)
    return {
        "locked_out": [each.document() for each in access if each.is_locked_out],
        "about_to_be_locked_out": endangered(access, told, custodians, now),
        "running": work,
        "waits_for_a_person": await _restore(reader, session)
        + waiting(await list_approvals(reader), await dead_letters.listing(reader), told, now),
        "policies": [await describe(reader, policy, now, settings.evidence) for policy in policies],
        "alerts": told,
        "custodians": custodians,
        "work": work,
        "queues": await details.queues(reader, now),
        "epoch": await revocations.newest(reader),
    }


async def _restore(reader: Reader, session: Session) -> list[dict[str, Any]]:
    """Describe that the database is older than the mark of this home, or forged, if so: then nothing is served."""
    place = session.parts.settings.home
    if not has_audit_key(place):
        return []
    keys = log_keys_of(place)
    if lacks := await lacking(reader, marks_of(place).read(), keys):
        return [distrusted("restore", lacks, "twinlock restore check")]
    try:
        await newest(reader, keys)
    except ForgedCheckpoint as forged:
        return [distrusted("audit log", forged.detail, "twinlock audit verify")]
    return []


def _home(session: Session) -> dict[str, Any]:
    settings = session.parts.settings
    return {
        "home": str(settings.home),
        "broker": settings.shown_broker,
        "workers": "" if settings.is_fleet else _workers_here(session),
        "denied_key_in_use_seconds": bound_seconds(settings.custody),
        "revoked_key_in_use_seconds": revoked_bound_seconds(settings.custody),
    }


def _four(found: Mapping[str, Any]) -> list[str | Table]:
    return [
        _table(_LOCKED_OUT, found["locked_out"], "locked out", "nobody"),
        "",
        _table(_ENDANGERED, found["about_to_be_locked_out"], "about to be locked out", "nobody"),
        "",
        _table(_RUNNING, found["running"], "running", "nothing"),
        "",
        _table(_WAITING, found["waits_for_a_person"], "waits for a person", "nothing"),
        "",
    ]


def _rest(found: Mapping[str, Any]) -> list[str | Table]:
    policies, custodians = found["policies"], found["custodians"]
    names = {policy["id"]: name_of(policy) for policy in policies}
    keys = [{**key, "custodian": each["custodian"]} for each in custodians for key in each["keys"]]
    keys = [{**key, "policy": names.get(key["policy"], key["policy"])} for key in keys]
    holding = [{**each, "keys": len(each["keys"])} for each in custodians]
    queues = [(name.replace("_", " "), count) for name, count in found["queues"].items()]
    return [
        _table(_POLICIES, [{**policy, "policy": name_of(policy)} for policy in policies], "\npolicies"),
        _table(_ALERTS, found["alerts"], "\nopen alerts"),
        _table(_CUSTODIANS, holding, "\ncustodians"),
        _table(_KEYS, keys, "\ncached keys"),
        Table((), queues, title="\nqueues"),
    ]


def _table(columns: tuple[str, ...], found: Sequence[Mapping[str, Any]], title: str, empty: str = "none") -> Table:
    return Table(columns, [[each[name] for name in columns] for each in found], empty, title)


async def _in_broker(session: Session) -> tuple[str, dict[str, int]]:
    """Say how many processes run each worker, and what waits in the broker for them or was taken by nobody."""
    from cli.presence import glance, replicas  # the broker's library, for a fleet alone

    seen = await glance(session.parts.settings)
    return replicas(seen), {f"waiting_{name}": each.messages for name, each in seen.queues.items()}


def _workers_here(session: Session) -> str:
    with HomeLock(session.parts.settings.home) as lock:
        return "started by the next command that waits" if lock.try_acquire() else "running in another process"
