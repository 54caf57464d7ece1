"""Outside publishers and what they may ask for; owned by `events/authority/publishers.py`."""

from sqlalchemy import Boolean, Column, ForeignKeyConstraint, String, Table

from twinlock.store.tables.base import UtcDateTime, metadata

# `user` is the broker's login, which the broker itself vouches for.
publishers = Table(
    "publishers",
    metadata,
    Column("user", String(100), primary_key=True),
    Column("all_tenants", Boolean, nullable=False),
    Column("added_at", UtcDateTime, nullable=False),
)

# By id: a tenant that is removed takes the right with it, and a later one of the same name does not inherit it.
publisher_tenants = Table(
    "publisher_tenants",
    metadata,
    Column("user", String(100), primary_key=True),
    Column("tenant_id", String(36), primary_key=True),
    ForeignKeyConstraint(["user"], ["publishers.user"], ondelete="CASCADE"),
    ForeignKeyConstraint(["tenant_id"], ["tenants.id"], ondelete="CASCADE"),
)

publisher_types = Table(
    "publisher_types",
    metadata,
    Column("user", String(100), primary_key=True),
    Column("type", String(100), primary_key=True),
    ForeignKeyConstraint(["user"], ["publishers.user"], ondelete="CASCADE"),
)
