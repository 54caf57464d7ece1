"""Purges: how far each is, and what it has destroyed; owned by the recovery handler."""

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, LargeBinary, String, Table

from twinlock.store.tables.base import Json, UtcDateTime, metadata

# One row a purge, from its request on; the id is the approval's. `verdicts` has what both root keys answered at the
# request, at the approval and before the first destruction; `keys` what there was when that began. The counts are of
# what is destroyed by now.
purges = Table(
    "purges",
    metadata,
    Column("id", ForeignKey("approvals.id"), primary_key=True),
    Column("policy_id", ForeignKey("policies.id"), nullable=False),
    Column("stage", String(12), nullable=False),
    Column("verdicts", Json, nullable=False),
    Column("keys", Json, nullable=False),
    Column("containers", BigInteger, nullable=False),
    Column("items", BigInteger, nullable=False),
    Column("objects", BigInteger, nullable=False),
    Column("begun_at", UtcDateTime),
    Column("finished_at", UtcDateTime),
    Column("certificate", LargeBinary),
    Index("ix_purges_policy_id", "policy_id"),
)

# A row for every generation of a container's key that a purge destroys, and what named it.
purged_generations = Table(
    "purged_generations",
    metadata,
    Column("purge_id", ForeignKey("purges.id"), primary_key=True),
    Column("container_id", String(36), primary_key=True),
    Column("generation", Integer, primary_key=True),
    Column("policy_key_generation", Integer, nullable=False),
    Column("commitment", LargeBinary(32), nullable=False),
)
