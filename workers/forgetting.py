"""What grows with time and is kept for a while only: each is forgotten by the worker that owns it, a bit at a time.

Kept for good are the records of requests (law 13: a copy that comes back years later is checked against its record),
the audit log (law 15), revocations, approvals and purges.
"""

from datetime import timedelta

from events import inbox
from twinlock.custody import costs
from twinlock.store.unit import Store
from workers import outcomes
from workers.alert_emitter import episodes
from workers.settings import WorkerSettings


async def forget_receipts(worker: str, store: Store, settings: WorkerSettings) -> None:
    """Forget a worker's old receipts."""
    await inbox.forget(store, worker, store.clock.now() - timedelta(seconds=settings.inbox_keep))


async def forget_lists(store: Store, settings: WorkerSettings) -> None:
    """Forget old lists of what became of the containers of assignments."""
    await outcomes.forget(store, store.clock.now() - timedelta(seconds=settings.lists_keep))


async def forget_operations(store: Store, settings: WorkerSettings) -> None:
    """Forget how often vaults were asked long ago."""
    await costs.forget(store, (store.clock.now() - timedelta(seconds=settings.operations_keep)).date())


async def forget_alerts(store: Store, settings: WorkerSettings) -> None:
    """Forget old signals of alerts, then alerts that were over long ago."""
    now, keep = store.clock.now(), settings.inbox_keep
    await episodes.forget(store, now - timedelta(seconds=keep))
    await episodes.forget_resolved(store, now - timedelta(seconds=max(keep, settings.alerts_keep)))
