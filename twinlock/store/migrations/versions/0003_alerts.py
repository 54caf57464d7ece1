"""Alerts, and the signals that they are folded from.

Revision: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the tables."""
    _alerts()
    _signals()


def downgrade() -> None:
    """Drop them, with all that is in them."""
    op.drop_table("alert_signals")
    op.drop_table("alerts")


def _alerts() -> None:
    op.create_table(
        "alerts",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("topic", sa.String(320), nullable=False),
        sa.Column("ongoing", sa.String(320)),
        sa.Column("kind", sa.String(100), nullable=False),
        sa.Column("severity", sa.String(10), nullable=False),
        sa.Column("audience", sa.String(12), nullable=False),
        sa.Column("tenant", sa.String(63), nullable=False),
        sa.Column("policy", sa.String(100)),
        sa.Column("slot", sa.String(12)),
        sa.Column("detail", sa.String(1000), nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("times", sa.BigInteger(), nullable=False),
        sa.Column("first_seen", _MOMENT, nullable=False),
        sa.Column("last_seen", _MOMENT, nullable=False),
        sa.Column("resolved_at", _MOMENT),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("changed_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alerts")),
        sa.UniqueConstraint("ongoing", name=op.f("uq_alerts_ongoing")),
    )
    op.create_index("ix_alerts_topic_first_seen", "alerts", ["topic", "first_seen"])
    op.create_index("ix_alerts_changed_at", "alerts", ["changed_at"])


def _signals() -> None:
    op.create_table(
        "alert_signals",
        sa.Column("number", _NUMBER, nullable=False),
        sa.Column("topic", sa.String(320), nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.Column("raises", sa.Boolean(), nullable=False),
        sa.Column("severity", sa.String(10), nullable=False),
        sa.Column("detail", sa.String(1000), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_alert_signals")),
    )
    op.create_index("ix_alert_signals_topic_raises_at", "alert_signals", ["topic", "raises", "at"])
    op.create_index("ix_alert_signals_at", "alert_signals", ["at"])
