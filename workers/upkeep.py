"""What has to be looked at from time to time, whatever the events say."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from events.inbox import forget
from twinlock.store.unit import Cause, Store, new_id
from workers import wakeups
from workers.names import DEP_ASSIGNER, MAILBOX_REENCRYPTOR
from workers.settings import WorkerSettings


@dataclass(frozen=True, slots=True)
class Periodic:
    """Name something to be done every so many seconds."""

    name: str
    seconds: float
    action: Callable[[], Awaitable[object]]


def upkeep(store: Store, settings: WorkerSettings) -> list[Periodic]:
    """Return what keeps the workers going: waking those that sleep over due work, and forgetting old receipts."""
    return [
        *(_reconciler(store, worker, settings) for worker in (DEP_ASSIGNER, MAILBOX_REENCRYPTOR)),
        Periodic("forget old receipts", settings.forget_seconds, lambda: _forget(store, settings)),
    ]


def _reconciler(store: Store, worker: str, settings: WorkerSettings) -> Periodic:
    return Periodic(
        f"reconcile {worker}",
        settings.reconcile_seconds,
        lambda: wakeups.reconcile(store, worker, settings.lost_wake_seconds),
    )


async def _forget(store: Store, settings: WorkerSettings) -> None:
    async with store.begin(Cause(new_id())) as unit:
        await forget(unit, unit.clock.now() - timedelta(seconds=settings.inbox_keep))
