"""The numbers of the workers."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """Bound concurrency, leases and pauses; times in seconds."""

    concurrency: int = 2
    lease_seconds: float = 900.0  # longer than a handler may take: a step that is under way is nobody else's
    assign_batch: int = 20
    rollout_batch: int = 500  # sites of a step: what the custodian takes in one request, where each has one key
    policies_per_tenant: int = 50  # for mailboxes
    policies_per_geo: int = 1  # for a tenant's sites
    trouble_first: float = 2.0
    trouble_most: float = 300.0
    reconcile_seconds: float = 1.0
    lost_wake_seconds: float = 900.0
    forget_seconds: float = 3600.0
    inbox_keep: float = 30 * 86400.0  # receipts, and the signals of alerts that are over
    lists_keep: float = 90 * 86400.0  # what became of each container of an assignment
    alerts_keep: float = 90 * 86400.0  # alerts that are over; not shorter than `inbox_keep`
    operations_keep: float = 400 * 86400.0  # how often vaults were asked: a year's costs, and the month that began it
    alert_look_seconds: float = 5.0
    alert_grace_seconds: float = 10.0  # longer than a transaction takes that raises one
    take_up_grace_seconds: float = 10.0  # for the fact that tells of an approved request, before its row is looked at
    overdue_seconds: float = 72 * 3600.0  # after which work on a policy's containers is told to be overdue
    stuck_seconds: float = 3600.0  # without progress, after which an overdue mailbox is moved, once
    overdue_look_seconds: float = 60.0
    sweep_seconds: float = 60.0
    progress_seconds: float = 1.0
    drain_seconds: float = 30.0
    seal_seconds: float = 2.0
    checkpoint_seconds: float = 30.0  # where nothing happens; what is sealed is signed at once
    count_seconds: float = 10.0  # how often counted vault operations are written down
    user_calls: int = 32  # calls of people that the custodian works on at a time
    background_calls: int = 8


@dataclass(frozen=True, slots=True)
class TracingSettings:
    """Hold where traces go: to an OTLP collector over HTTP, nowhere by default; `ratio` of them are kept."""

    endpoint: str = ""
    ratio: float = 1.0
