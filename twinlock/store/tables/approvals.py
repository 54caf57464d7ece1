"""Approvers, what waits for their signatures, and what was signed; owned by the operator's commands (law 16)."""

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    UniqueConstraint,
)

from twinlock.store.tables.base import Json, Serial, UtcDateTime, metadata, partial

# One row: what tells this installation from every other, made by `init` and kept for good.
installation = Table(
    "installation",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("id", String(32), nullable=False),
    CheckConstraint("number = 1", name="single"),
)

# The chain: rows are added, and never changed but for `announced`, which is no part of it.
approver_changes = Table(
    "approver_changes",
    metadata,
    Column("tenant_id", ForeignKey("tenants.id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("change", String(10), nullable=False),
    Column("name", String(63), nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("public_key", LargeBinary(32), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("counts_from", UtcDateTime, nullable=False),
    Column("statement", LargeBinary, nullable=False),
    Column("signatures", Json, nullable=False),
    Column("hash", LargeBinary(32), nullable=False),
    Column("announced", Boolean, nullable=False),
    UniqueConstraint("tenant_id", "fingerprint", "change"),
    partial("ix_approver_changes_untold", "tenant_id", "number", where="announced IS false"),
)

approvals = Table(
    "approvals",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("tenant_id", ForeignKey("tenants.id"), nullable=False),
    Column("policy_id", ForeignKey("policies.id")),
    Column("action", String(20), nullable=False),
    Column("subject", String(200), nullable=False),
    Column("state", String(10), nullable=False),
    Column("statement", LargeBinary, nullable=False),
    Column("public_key", LargeBinary(32)),
    Column("requested_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("due", UtcDateTime),
    Column("version", Integer, nullable=False),
    Index("ix_approvals_tenant_id_state", "tenant_id", "state"),
    Index("ix_approvals_state_expires_at", "state", "expires_at"),
)

approval_signatures = Table(
    "approval_signatures",
    metadata,
    Column("approval_id", ForeignKey("approvals.id"), primary_key=True),
    Column("fingerprint", String(64), primary_key=True),
    Column("name", String(63), nullable=False),
    Column("signature", LargeBinary(64), nullable=False),
    Column("at", UtcDateTime, nullable=False),
)

# What happened to a request, in order; `announced` says whether the event that tells of it is in an outbox.
approval_steps = Table(
    "approval_steps",
    metadata,
    Column("number", Serial, primary_key=True),
    Column("approval_id", ForeignKey("approvals.id"), nullable=False),
    Column("step", String(10), nullable=False),
    Column("version", Integer, nullable=False),
    Column("approver", String(63)),
    Column("approvals", Integer, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("announced", Boolean, nullable=False),
    Index("ix_approval_steps_approval_id", "approval_id"),
    partial("ix_approval_steps_untold", "number", where="announced IS false"),
)
