"""Look at alerts that are still open: what does not hold any more is over, whoever should have said so.

A custodian that was killed tells nothing, a raise may overtake an end, and nobody tells that dead letters are gone,
that overdue work is done, or that the audit log is intact again.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Row, Select, select

from schemas.identifiers import PROVIDER, Audience, PolicyState, Slot
from twinlock.custody.audit import sealing
from twinlock.custody.decision import ROOT_SLOTS, remember
from twinlock.keys.ports import Outcome
from twinlock.store.tables.alerts import alerts
from twinlock.store.tables.bus import dead_letters
from twinlock.store.tables.custody import policies, root_key_looks, verdicts
from twinlock.store.tables.tenants import tenants
from twinlock.store.tables.work import jobs
from twinlock.store.unit import Cause, Reader, Store, new_id
from workers.alert_emitter.episodes import Signal, forget_tenants, take
from workers.alert_emitter.kinds import End, Situation, Topic, is_over, quiet_seconds

_BATCH = 200


async def look(store: Store, grace_seconds: float) -> int:
    """End what is over, and return how many episodes that were.

    What was raised within the grace time is left alone: what it is about may be in a transaction that nobody sees yet.
    """
    ended, after = 0, ""
    before = store.clock.now() - timedelta(seconds=grace_seconds)
    while True:
        async with store.read() as reader:
            query = select(alerts).where(alerts.c.ongoing.is_not(None), alerts.c.id > after)
            rows = await reader.rows(query.order_by(alerts.c.id).limit(_BATCH))
            over = await _over(reader, store, [row for row in rows if row.last_seen <= before])
        for row in over:
            async with store.begin(Cause(new_id())) as unit:
                # Whatever is raised from here on comes later than this end, and begins an episode of its own.
                await take(unit, [Signal(_topic(row), row.last_seen, False)])
        ended += len(over)
        if len(rows) < _BATCH:
            break
        after = rows[-1].id
    async with store.begin(Cause(new_id())) as unit:
        await forget_tenants(unit)
    return ended


async def _over(reader: Reader, store: Store, rows: Sequence[Row[Any]]) -> list[Row[Any]]:
    if not rows:
        return []
    situations = await _situations(reader, {row.policy for row in rows if row.policy})
    going_on = await _going_on(reader)
    named = select(tenants.c.name).where(tenants.c.name.in_({row.tenant for row in rows}))
    there = {PROVIDER, *(row.name for row in await reader.rows(named))}
    now = store.clock.now()
    return [
        row
        for row in rows
        if row.tenant not in there or _is_over(row, situations, going_on, (now - row.last_seen).total_seconds())
    ]


async def _going_on(reader: Reader) -> Mapping[End, bool]:
    """Say of what is about no policy whether it goes on."""
    letter = await reader.scalar(select(dead_letters.c.number).limit(1))
    return {End.NO_LETTERS: letter is not None, End.INTACT: await sealing.is_broken(reader)}


def _is_over(row: Row[Any], situations: Mapping[str, Situation], going_on: Mapping[End, bool], quiet: float) -> bool:
    topic = _topic(row)
    if topic.end in going_on:
        return not going_on[topic.end]
    if topic.policy is not None and topic.policy not in situations:
        return True
    if (limit := quiet_seconds(topic)) is not None:
        return quiet >= limit
    return topic.policy is not None and is_over(topic, situations[topic.policy])


async def _situations(reader: Reader, ids: Collection[str]) -> dict[str, Situation]:
    """Return how policies stand, by memory (law 4); one that is not there is missing."""
    found = await reader.rows(select(policies.c.id, policies.c.state).where(policies.c.id.in_(ids)))
    stored = await reader.rows(
        select(verdicts.c.policy_id, verdicts.c.slot, verdicts.c.definite, verdicts.c.outcome).where(
            verdicts.c.policy_id.in_(ids)
        )
    )
    outcomes = {(row.policy_id, row.slot): _folded(row) for row in stored}
    noticed = {(row.policy_id, row.slot) for row in await reader.rows(_noticed(ids))}
    late = {row.policy_id for row in await reader.rows(_overdue(ids))}
    situations = {}
    for row in found:
        a, b = (outcomes.get((row.id, slot.value), Outcome.OK) for slot in ROOT_SLOTS)
        slots = frozenset(slot for slot in ROOT_SLOTS if (row.id, slot.value) in noticed)
        situations[row.id] = Situation((a, b), PolicyState(row.state), slots, row.id in late)
    return situations


def _noticed(ids: Collection[str]) -> Select[Any]:
    found = root_key_looks.c
    there = policies.c.state != PolicyState.PURGED
    joined = select(found.policy_id, found.slot).join(policies, policies.c.id == found.policy_id)
    return joined.where(found.policy_id.in_(ids), found.notice != "", there)


def _overdue(ids: Collection[str]) -> Select[Any]:
    return select(jobs.c.policy_id).where(jobs.c.policy_id.in_(ids), jobs.c.overdue.is_not(None)).distinct()


def _folded(row: Row[Any]) -> Outcome:
    return remember(None if row.definite is None else Outcome(row.definite), Outcome(row.outcome))


def _topic(row: Row[Any]) -> Topic:
    slot = None if row.slot is None else Slot(row.slot)
    return Topic(row.kind, Audience(row.audience), row.tenant, row.policy, slot)
