"""Outbox, inbox, embedded deliveries and dead letters; owned by the bus."""

from sqlalchemy import Column, Index, Integer, LargeBinary, String, Table, UniqueConstraint

from twinlock.store.tables.base import Serial, UtcDateTime, metadata

# What a commit told and nobody has taken yet. A relay leases rows for as long as it publishes them.
outbox = Table(
    "outbox",
    metadata,
    Column("number", Serial, primary_key=True),
    Column("source", String(200), nullable=False),
    Column("id", String(100), nullable=False),
    Column("publisher", String(100), nullable=False),
    Column("type", String(100), nullable=False),
    Column("correlation", String(100), nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("not_before", UtcDateTime),
    Column("lease_owner", String(32)),
    Column("lease_until", UtcDateTime),
    UniqueConstraint("source", "id"),
    Index("ix_outbox_correlation", "correlation"),
    Index("ix_outbox_publisher_number", "publisher", "number"),
)

inbox = Table(
    "inbox",
    metadata,
    Column("consumer", String(40), primary_key=True),
    Column("publisher", String(100), primary_key=True),
    Column("source", String(200), primary_key=True),
    Column("id", String(100), primary_key=True),
    Column("digest", LargeBinary(32), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Index("ix_inbox_at", "at"),
)

# The embedded transport's queue: one row a consumer, with its own attempts and its own time.
deliveries = Table(
    "deliveries",
    metadata,
    Column("number", Serial, primary_key=True),
    Column("consumer", String(40), nullable=False),
    Column("publisher", String(100), nullable=False),
    Column("source", String(200), nullable=False),
    Column("id", String(100), nullable=False),
    Column("type", String(100), nullable=False),
    Column("correlation", String(100), nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("not_before", UtcDateTime, nullable=False),
    UniqueConstraint("consumer", "publisher", "source", "id"),
    Index("ix_deliveries_consumer_not_before_number", "consumer", "not_before", "number"),
    Index("ix_deliveries_correlation", "correlation"),
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("number", Serial, primary_key=True),
    Column("consumer", String(40), nullable=False),
    Column("publisher", String(100), nullable=False),
    Column("source", String(200), nullable=False),
    Column("id", String(100), nullable=False),
    Column("type", String(100), nullable=False),
    Column("correlation", String(100), nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("reason", String(500), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Index("ix_dead_letters_correlation", "correlation"),
    Index("ix_dead_letters_source_id", "source", "id"),
)
