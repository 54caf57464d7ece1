"""Fold signals into alerts, one row an episode: what was raised since the last end, up to the next one.

The bus promises no order, so nothing here depends on the order in which signals come: each is stored, and the episodes
around its moment are counted anew. An end that comes late divides an episode that was taken for one.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, delete, exists, func, insert, select, update

from schemas.facts import AlertChanged
from schemas.identifiers import PROVIDER, AlertNews, AlertState, Severity
from twinlock.store.distinct import distinct
from twinlock.store.pruning import prune
from twinlock.store.tables.alerts import alert_signals, alerts
from twinlock.store.tables.tenants import tenants
from twinlock.store.unit import Reader, Store, Unit, new_id
from workers.alert_emitter.kinds import Topic

log = logging.getLogger(__name__)

_signal = alert_signals.c
_TOPICS = 200


@dataclass(frozen=True, slots=True)
class Signal:
    """Say that something was raised at a moment, or was over by then."""

    topic: Topic
    at: datetime
    raises: bool
    severity: Severity = Severity.INFO
    detail: str = ""


@dataclass(frozen=True, slots=True)
class _Span:
    """Hold a time between two ends of a topic; `after` is not in it, `until` is."""

    topic: Topic
    after: datetime | None
    until: datetime | None

    def holds(self, moment: ColumnElement[Any]) -> list[ColumnElement[bool]]:
        """Return the conditions for a moment to lie in it."""
        bounds = []
        if self.after is not None:
            bounds.append(moment > self.after)
        if self.until is not None:
            bounds.append(moment <= self.until)
        return bounds


async def take(unit: Unit, signals: Sequence[Signal]) -> None:
    """Store signals of one tenant or policy, and bring its alerts up to them; tell what changed."""
    await _lock(unit, signals)
    raised = await _raised(unit, signals)
    # An end of what nobody told of yet changes nothing now: most ends are of that kind.
    early = [signal for signal in signals if not signal.raises and signal.topic.key not in raised]
    if early:
        await unit.execute(insert(alert_signals), [_signal_row(signal) for signal in early])
    for signal in signals:
        if signal.raises or signal.topic.key in raised:
            spans = await _around(unit, signal)
            await unit.execute(insert(alert_signals).values(_signal_row(signal)))
            await _refold(unit, spans)


async def _raised(reader: Reader, signals: Iterable[Signal]) -> set[str]:
    topics = {signal.topic.key for signal in signals}
    known = select(_signal.topic).where(_signal.topic.in_(topics), _signal.raises.is_(True)).distinct()
    return {row.topic for row in await reader.rows(known)}


async def _lock(unit: Unit, signals: Iterable[Signal]) -> None:
    """Let no other process fold the same topics meanwhile; SQLite has one writer anyhow."""
    if unit.connection.dialect.name == "postgresql":
        for scope in sorted({signal.topic.policy or signal.topic.tenant for signal in signals}):
            await unit.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"alerts {scope}", 0))))


async def _around(reader: Reader, signal: Signal) -> list[_Span]:
    """Return the spans that a signal changes: the one it lies in, and where it is an end itself the next one, too."""
    ends = (_signal.topic == signal.topic.key, _signal.raises.is_(False))
    after = await reader.scalar(select(func.max(_signal.at)).where(*ends, _signal.at < signal.at))
    until = await reader.scalar(select(func.min(_signal.at)).where(*ends, _signal.at >= signal.at))
    if signal.raises:
        return [_Span(signal.topic, after, until)]
    if until == signal.at:
        return []  # it ended then already
    return [_Span(signal.topic, after, signal.at), _Span(signal.topic, signal.at, until)]


async def _refold(unit: Unit, spans: Sequence[_Span]) -> None:
    if not spans:
        return
    whole = _Span(spans[0].topic, spans[0].after, spans[-1].until)
    mine = select(alerts).where(alerts.c.topic == whole.topic.key, *whole.holds(alerts.c.first_seen))
    there = await unit.row(mine)  # one at most: it is what the spans were, before there was an end between them
    for span in spans:
        there = await _fold(unit, span, there)


async def _fold(unit: Unit, span: _Span, there: Row[Any] | None) -> Row[Any] | None:
    """Bring the alert of a span up to its signals; return the row that is still to be used for another span."""
    inside = (_signal.topic == span.topic.key, _signal.raises.is_(True), *span.holds(_signal.at))
    tally = select(
        func.count().label("times"), func.min(_signal.at).label("first"), func.max(_signal.at).label("last")
    ).where(*inside)
    counted = await unit.row(tally)
    if counted is None or not counted.times:
        return there
    latest = select(_signal.severity, _signal.detail).where(*inside).order_by(_signal.at.desc(), _signal.detail)
    said = await unit.row(latest.limit(1))
    assert said is not None  # noqa: S101  # they were counted just now
    values = {
        "severity": said.severity,
        "detail": said.detail,
        "ongoing": span.topic.key if span.until is None else None,
        "state": AlertState.OPEN if span.until is None else AlertState.RESOLVED,
        "times": counted.times,
        "first_seen": counted.first,
        "last_seen": counted.last,
        "resolved_at": span.until,
    }
    await _write(unit, span.topic, values, there)
    return None


async def _write(unit: Unit, topic: Topic, values: dict[str, Any], there: Row[Any] | None) -> None:
    if there is not None and all(there._mapping[name] == value for name, value in values.items()):
        return
    version = 1 if there is None else there.version + 1
    row = {**values, "version": version, "changed_at": unit.clock.now()}
    alert = new_id() if there is None else there.id
    if there is None:
        about = {"kind": topic.kind, "audience": topic.audience, "tenant": topic.tenant, "policy": topic.policy}
        await unit.execute(insert(alerts).values(id=alert, topic=topic.key, slot=topic.slot, **about, **row))
    else:
        await unit.execute(update(alerts).where(alerts.c.id == alert).values(row))
    if (news := _news(values, there)) is not None:
        _tell(unit, topic, alert, row, news)


def _news(values: dict[str, Any], there: Row[Any] | None) -> AlertNews | None:
    """Say what is worth telling: of a storm of repetitions only each doubling is."""
    if values["state"] is AlertState.RESOLVED:
        return AlertNews.RESOLVED
    if there is None:
        return AlertNews.OPENED
    return AlertNews.REPEATED if values["times"].bit_count() == 1 else None


def _tell(unit: Unit, topic: Topic, alert: str, row: dict[str, Any], news: AlertNews) -> None:
    resolved = row["resolved_at"]
    unit.emit(
        AlertChanged(
            alert=alert,
            version=row["version"],
            news=news,
            kind=topic.kind,
            severity=row["severity"],
            audience=topic.audience,
            tenant=topic.tenant,
            policy=topic.policy,
            slot=topic.slot,
            detail=row["detail"],
            count=row["times"],
            first_seen=row["first_seen"].isoformat(timespec="microseconds"),
            last_seen=row["last_seen"].isoformat(timespec="microseconds"),
            resolved_at=resolved and resolved.isoformat(timespec="microseconds"),
        )
    )
    log.warning(
        "%s: %s (%s, to %s, %d times): %s",
        *(news.value, topic.kind, row["severity"], topic.audience.value, row["times"], row["detail"]),
    )


def _signal_row(signal: Signal) -> dict[str, Any]:
    kept = {"severity": signal.severity, "detail": signal.detail}
    return {"topic": signal.topic.key, "at": signal.at, "raises": signal.raises, **kept}


async def forget(store: Store, before: datetime) -> int:
    """Remove old signals, but for those of alerts that are still open: nothing older is ever delivered again."""
    still = select(alerts.c.topic).where(alerts.c.ongoing.is_not(None))
    return await prune(store, _signal.at, before, _signal.topic.not_in(still))


async def forget_resolved(store: Store, before: datetime) -> int:
    """Remove alerts that were over by then; their signals have to be forgotten already, or a late one opens them."""
    return await prune(store, alerts.c.resolved_at, before)


async def forget_tenants(unit: Unit) -> None:
    """Remove the alerts of tenants that were removed, once they are over and that was told."""
    row = alerts.c
    removed = [found.tenant for found in await unit.rows(_removed())]
    if not removed:
        return
    gone = (row.tenant.in_(removed), row.ongoing.is_(None))
    topics = [found.topic for found in await unit.rows(select(row.topic).where(*gone).distinct().limit(_TOPICS))]
    if topics:
        await unit.execute(delete(alert_signals).where(_signal.topic.in_(topics)))
        await unit.execute(delete(alerts).where(row.topic.in_(topics), *gone))


def _removed() -> Select[Any]:
    told = distinct(alerts.c.tenant).subquery()
    there = exists().where(tenants.c.name == told.c.value)
    return select(told.c.value.label("tenant")).where(told.c.value != PROVIDER, ~there).limit(_TOPICS)
