"""Wake-ups of a worker: events that name no job, never more of them under way than the worker has slots (law 12).

A wake-up that finds work passes its slot on to the next one; one that finds none frees it. A copy of a wake-up that has
passed its slot on already ends there, so that duplicated chains end themselves.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta

from sqlalchemy import delete, select, update

from schemas.event import Event
from schemas.facts import AssignmentWoken, RecoveryWoken, ReencryptionWoken, RolloutWoken
from schemas.names import DEP_ASSIGNER, MAILBOX_REENCRYPTOR, RECOVERY_HANDLER, SITE_REENCRYPTOR
from twinlock.store.once import insert_once
from twinlock.store.tables.work import wake_slots
from twinlock.store.unit import Cause, Reader, Store, Unit, new_id
from workers import jobs

_WAKE: Mapping[str, Callable[[int], Event]] = {
    DEP_ASSIGNER: lambda slot: AssignmentWoken(slot=slot),
    MAILBOX_REENCRYPTOR: lambda slot: ReencryptionWoken(slot=slot),
    RECOVERY_HANDLER: lambda slot: RecoveryWoken(slot=slot),
    SITE_REENCRYPTOR: lambda slot: RolloutWoken(slot=slot),
}


async def prepare_slots(store: Store, worker: str, concurrency: int) -> None:
    """Give a worker twice as many slots as it works at a time, and take away free ones beyond.

    One beyond that a wake-up still holds goes at a later start.
    """
    async with store.begin(Cause(new_id())) as unit:
        for slot in range(2 * concurrency):  # in one order for all replicas, which start together
            row = {"worker": worker, "slot": slot, "event_id": None, "since": None}
            await unit.execute(insert_once(unit, wake_slots).values(row))
        beyond = (wake_slots.c.worker == worker) & (wake_slots.c.slot >= 2 * concurrency)
        await unit.execute(delete(wake_slots).where(beyond, wake_slots.c.event_id.is_(None)))


async def wake(unit: Unit, worker: str, times: int = 1) -> None:
    """Send up to `times` wake-ups, as many as there are free slots; who is awake will find the rest of the work."""
    free = await unit.rows(
        select(wake_slots.c.slot)
        .where(wake_slots.c.worker == worker, wake_slots.c.event_id.is_(None))
        .limit(times)
        .with_for_update(skip_locked=True)
    )
    for row in free:
        await _send(unit, worker, row.slot)


async def is_current(reader: Reader, worker: str, slot: int, event_id: str) -> bool:
    """Tell whether a wake-up still holds its slot; a copy of an earlier one does not."""
    query = select(wake_slots.c.event_id).where(wake_slots.c.worker == worker, wake_slots.c.slot == slot)
    return bool(await reader.scalar(query) == event_id)


async def pass_on(unit: Unit, worker: str, slot: int, event_id: str) -> None:
    """Send the next wake-up on this slot if any job is due, else free the slot; give up what this one still leases.

    Another copy of it may have claimed a job that this one did not see. That copy can't commit any more, as the receipt
    is this one's, and nobody else would touch the job until the lease lapses.
    """
    current = await jobs.has_slot(unit, worker, slot, event_id)
    await jobs.give_back(unit, worker, event_id)
    if not current:
        return
    if await jobs.count_due(unit, worker, unit.clock.now(), 1):
        await _send(unit, worker, slot)
    else:
        await _set(unit, worker, slot, None)


async def reconcile(store: Store, worker: str, lost_after: float) -> None:
    """Wake the worker for every due, free job as far as slots allow, and take back slots of wake-ups that were lost."""
    async with store.read() as reader:
        due = await jobs.count_due(reader, worker, store.clock.now(), 100)
    if not due:
        return
    async with store.begin(Cause(new_id())) as unit:
        lost = wake_slots.c.since <= unit.clock.now() - timedelta(seconds=lost_after)
        found = select(wake_slots.c.slot).where(wake_slots.c.worker == worker, lost)
        for row in await unit.rows(found.with_for_update(skip_locked=True)):
            await _set(unit, worker, row.slot, None)
        await wake(unit, worker, due)


async def _send(unit: Unit, worker: str, slot: int) -> None:
    await _set(unit, worker, slot, unit.emit(_WAKE[worker](slot)))


async def _set(unit: Unit, worker: str, slot: int, event_id: str | None) -> None:
    since = None if event_id is None else unit.clock.now()
    await unit.execute(
        update(wake_slots)
        .where(wake_slots.c.worker == worker, wake_slots.c.slot == slot)
        .values(event_id=event_id, since=since)
    )
