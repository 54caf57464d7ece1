"""Requests, jobs and whose turn it is; owned by the workers."""

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, LargeBinary, String, Table

from twinlock.store.tables.base import Json, UtcDateTime, metadata, partial

# Every request, from its first receipt on: whose it is, what exactly was asked, whether it was let in (law 13: settled
# once, and never asked again), and how it ended, which is what a waiting command reads. Kept for good.
requests = Table(
    "requests",
    metadata,
    Column("source", String(200), primary_key=True),
    Column("id", String(100), primary_key=True),
    Column("publisher", String(100), nullable=False),
    Column("type", String(100), nullable=False),
    Column("correlation", String(100), nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    Column("accepted", Boolean, nullable=False),
    Column("outcome", String(10)),
    Column("answer", Json, nullable=False),
    Column("received_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    Index("ix_requests_correlation", "correlation"),
)

# What a mass assignment came to, a row a container: events carry counts only. Kept for a while.
assignment_outcomes = Table(
    "assignment_outcomes",
    metadata,
    Column("job_id", String(150), primary_key=True),
    Column("container", String(320), primary_key=True),
    Column("outcome", String(10), nullable=False),
    Column("reason", String(500), nullable=False),
    Column("at", UtcDateTime),  # none for what was noted by a program that did not know of it
    Index("ix_assignment_outcomes_at", "at"),
)

# Which policy a tenant's sites of a geo are under, or on their way to; no row before the first registration.
geos = Table(
    "geos",
    metadata,
    Column("tenant_id", ForeignKey("tenants.id"), primary_key=True),
    Column("geo", String(32), primary_key=True),
    Column("policy_id", ForeignKey("policies.id"), nullable=False),
    Column("state", String(12), nullable=False),
    Column("since", UtcDateTime, nullable=False),
    Column("version", Integer, nullable=False),
)

# Law 12: unfinished background work. The row goes when the work is done; the fencing number rises with every claim and
# every change of the target, so that whoever worked on an older state can't commit. `target_at` is when that target was
# set, `overdue` whether it was told that it takes too long, and what was done about it.
jobs = Table(
    "jobs",
    metadata,
    Column("id", String(150), primary_key=True),
    Column("worker", String(40), nullable=False),
    Column("kind", String(40), nullable=False),
    Column("tenant_id", String(36), nullable=False),
    Column("container_id", String(36)),
    Column("policy_id", String(36)),
    Column("payload", Json, nullable=False),
    Column("cursor", String(400)),
    Column("total", BigInteger, nullable=False),
    Column("done", BigInteger, nullable=False),
    Column("not_before", UtcDateTime, nullable=False),
    Column("trouble", String(500), nullable=False),
    Column("lease_owner", String(64)),
    Column("lease_until", UtcDateTime),
    Column("fencing", BigInteger, nullable=False),
    Column("turn", BigInteger, nullable=False),
    Column("correlation", String(100), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("progressed_at", UtcDateTime),
    Column("target_at", UtcDateTime),
    Column("overdue", String(8)),
    Index("ix_jobs_worker_tenant_id_turn_id", "worker", "tenant_id", "turn", "id"),
    Index("ix_jobs_worker_tenant_id_not_before", "worker", "tenant_id", "not_before"),
    Index("ix_jobs_worker_not_before", "worker", "not_before"),
    Index("ix_jobs_correlation", "correlation"),
    Index("ix_jobs_container_id", "container_id"),
    partial("ix_jobs_lease_owner", "lease_owner", where="lease_owner IS NOT NULL"),
    partial("ix_jobs_untold", "worker", "target_at", where="overdue IS NULL"),
    partial("ix_jobs_overdue", "policy_id", where="overdue IS NOT NULL"),
)

# The tenant with the lowest turn has waited longest.
turns = Table(
    "turns",
    metadata,
    Column("worker", String(40), primary_key=True),
    Column("tenant_id", String(36), primary_key=True),
    Column("turn", BigInteger, nullable=False),
    Index("ix_turns_worker_turn", "worker", "turn"),
)

# The broker never holds more wake-ups of a worker than it has rows here: a wake-up needs a free slot.
wake_slots = Table(
    "wake_slots",
    metadata,
    Column("worker", String(40), primary_key=True),
    Column("slot", Integer, primary_key=True),
    Column("event_id", String(100)),
    Column("since", UtcDateTime),
)
