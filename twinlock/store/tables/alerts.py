"""Alerts, one row an episode, and the signals that they are folded from; owned by the alert emitter."""

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, String, Table

from twinlock.store.tables.base import Serial, UtcDateTime, metadata, partial

_TOPIC = 320

alerts = Table(
    "alerts",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("topic", String(_TOPIC), nullable=False),
    Column("ongoing", String(_TOPIC), unique=True),  # the topic again, while it is open: one episode at a time
    Column("kind", String(100), nullable=False),
    Column("severity", String(10), nullable=False),
    Column("audience", String(12), nullable=False),
    Column("tenant", String(63), nullable=False),
    Column("policy", String(100)),
    Column("slot", String(12)),
    Column("detail", String(1000), nullable=False),
    Column("state", String(8), nullable=False),
    Column("times", BigInteger, nullable=False),
    Column("first_seen", UtcDateTime, nullable=False),
    Column("last_seen", UtcDateTime, nullable=False),
    Column("resolved_at", UtcDateTime),
    Column("version", Integer, nullable=False),
    Column("changed_at", UtcDateTime, nullable=False),
    Index("ix_alerts_topic_first_seen", "topic", "first_seen"),
    Index("ix_alerts_changed_at", "changed_at"),
    Index("ix_alerts_tenant_id", "tenant", "id"),
    Index("ix_alerts_resolved_at", "resolved_at"),
    partial("ix_alerts_open", "id", where="ongoing IS NOT NULL"),
)

# Whatever was raised or ended, and when: in whatever order they come, equal signals make equal alerts.
alert_signals = Table(
    "alert_signals",
    metadata,
    Column("number", Serial, primary_key=True),
    Column("topic", String(_TOPIC), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("raises", Boolean, nullable=False),
    Column("severity", String(10), nullable=False),
    Column("detail", String(1000), nullable=False),
    Index("ix_alert_signals_topic_raises_at", "topic", "raises", "at"),
    Index("ix_alert_signals_at", "at"),
)
