"""`twinlock status`: the state of a home on one screen."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import typer
from sqlalchemy import Row, func, select

from cli.command import command
from cli.commands import alerts
from cli.commands.policy_documents import describe, name_of
from cli.output import Result, Table, fields
from cli.session import Session
from events.home_lock import HomeLock
from twinlock.custody import register as registered
from twinlock.custody import revocations
from twinlock.custody.fate import bound_seconds, revoked_bound_seconds
from twinlock.custody.policies import list_policies
from twinlock.custody.settings import CustodySettings
from twinlock.store.tables.bus import dead_letters, deliveries, outbox
from twinlock.store.tables.content import containers, object_intents, superseded_objects
from twinlock.store.tables.work import jobs
from twinlock.store.unit import Reader
from workers.alert_emitter import reading

_POLICIES = ("policy", "state", "health", "mode", "assigned", "objects_by_key_version")
_ALERTS = ("kind", "severity", "audience", "tenant", "count", "detail")
_CUSTODIANS = ("custodian", "serves", "epoch", "seconds_ago", "keys", "silent_vaults")
_KEYS = ("custodian", "policy", "generation", "opened_by", "expires")
_WORK = ("kind", "container", "done", "total", "per_second", "seconds_left", "trouble")


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    command(app, "status")(status)


async def status(session: Session) -> Result:
    """Show policies and their health, open alerts, work in progress, queues and dead letters."""
    parts = session.parts
    now, rules = parts.clock.now(), parts.settings.custody.evidence
    async with parts.store.read() as reader:
        policies = [await describe(reader, policy, now, rules) for policy in await list_policies(reader)]
        work = [_work(row, parts.clock.now()) for row in await _jobs(reader)]
        queues = await _queues(reader, parts.clock.now())
        custodians = await _custodians(reader, parts.clock.now(), parts.settings.custody)
        epoch = await revocations.newest(reader)
        told = [alerts.describe(row) for row in await reading.listing(reader, only_open=True)]
    if parts.settings.is_fleet:
        workers, waiting = await _in_broker(session)
        queues |= waiting
    else:
        workers = "running in another process" if _is_busy(session) else "started by the next command that waits"
    home = {
        "home": str(parts.settings.home),
        "broker": parts.settings.shown_broker,
        "workers": workers,
        "denied_key_in_use_seconds": bound_seconds(parts.settings.custody),
        "revoked_key_in_use_seconds": revoked_bound_seconds(parts.settings.custody),
        "epoch": epoch,
    }
    names = {policy["id"]: name_of(policy) for policy in policies}
    keys = [{**key, "custodian": each["custodian"]} for each in custodians for key in each["keys"]]
    shown = [[{**policy, "policy": name_of(policy)}[name] for name in _POLICIES] for policy in policies]
    view = [
        fields(home),
        Table(_POLICIES, shown, title="\npolicies"),
        _table(_ALERTS, told, "open alerts"),
        _table(_CUSTODIANS, [{**each, "keys": len(each["keys"])} for each in custodians], "custodians"),
        _table(_KEYS, [{**key, "policy": names.get(key["policy"], key["policy"])} for key in keys], "cached keys"),
        Table(_WORK, [[job[name] for name in _WORK] for job in work], "nothing to do", "\nwork"),
        Table((), [(name.replace("_", " "), count) for name, count in queues.items()], title="\nqueues"),
    ]
    lists = {"policies": policies, "alerts": told, "custodians": custodians, "work": work}
    return Result({**home, **lists, "queues": queues}, view)


def _table(columns: tuple[str, ...], found: Sequence[Mapping[str, Any]], title: str) -> Table:
    return Table(columns, [[each[name] for name in columns] for each in found], title=f"\n{title}")


async def _custodians(reader: Reader, now: datetime, settings: CustodySettings) -> list[dict[str, Any]]:
    """Describe every custodian that is registered, with what it held when it last confirmed the epoch."""
    found = await registered.read_all(reader)
    ages = [(now - each.confirmed_at).total_seconds() for each in found]
    return [
        {
            "custodian": each.instance,
            "serves": age < settings.epoch_seconds,
            "epoch": each.epoch,
            "seconds_ago": round(age, 1),
            "keys": each.report["keys"],
            "silent_vaults": each.report["silent"],
        }
        for each, age in zip(found, ages, strict=True)
    ]


async def _in_broker(session: Session) -> tuple[str, dict[str, int]]:
    """Say how many processes run each worker, and what waits in the broker for them or was taken by nobody."""
    from cli.presence import glance, replicas  # the broker's library, for a fleet alone

    seen = await glance(session.parts.settings)
    return replicas(seen), {f"waiting_{name}": each.messages for name, each in seen.queues.items()}


def _is_busy(session: Session) -> bool:
    with HomeLock(session.parts.settings.home) as lock:
        return not lock.try_acquire()


async def _jobs(reader: Reader) -> list[Row[Any]]:
    query = select(jobs, containers.c.name).join(containers, containers.c.id == jobs.c.container_id, isouter=True)
    return list(await reader.rows(query.order_by(jobs.c.created_at, jobs.c.id)))


def _work(row: Row[Any], now: datetime) -> dict[str, Any]:
    """Describe a job; the rate is what it did since it began, the time left what that makes of the rest."""
    seconds = max((now - row.created_at).total_seconds(), 0.001)
    rate = row.done / seconds
    return {
        "kind": row.kind,
        "container": row.name,
        "done": row.done,
        "total": row.total,
        "per_second": round(rate, 1),
        "seconds_left": round((row.total - row.done) / rate) if rate else None,
        "waits": row.not_before > now,
        "trouble": row.trouble,
    }


async def _queues(reader: Reader, now: datetime) -> dict[str, int]:
    counted = {
        "outbox": select(func.count()).select_from(outbox),
        "deliveries": select(func.count()).select_from(deliveries),
        "delayed": select(func.count()).select_from(deliveries).where(deliveries.c.not_before > now),
        "dead_letters": select(func.count()).select_from(dead_letters),
        "uploads_under_way": select(func.count()).select_from(object_intents),
        "superseded_objects": select(func.count()).select_from(superseded_objects),
    }
    return {name: int(await reader.scalar(query)) for name, query in counted.items()}
