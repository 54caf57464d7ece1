"""Purges, what each has destroyed, and which policies once wrapped a container's keys.

Revision: 0006
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)
_JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Make the new tables."""
    _wraps()
    _purges()
    _generations()


def downgrade() -> None:
    """Drop them, with all that is in them."""
    for table in ("purged_generations", "purges", "container_wraps"):
        op.drop_table(table)


def _wraps() -> None:
    op.create_table(
        "container_wraps",
        sa.Column("container_id", sa.String(36), nullable=False),
        sa.Column("policy_id", sa.String(36), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("until", _MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["policy_id"], ["policies.id"], name=op.f("fk_container_wraps_policy_id")),
        sa.PrimaryKeyConstraint("container_id", "policy_id", name=op.f("pk_container_wraps")),
    )


def _purges() -> None:
    op.create_table(
        "purges",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("policy_id", sa.String(36), nullable=False),
        sa.Column("stage", sa.String(12), nullable=False),
        sa.Column("verdicts", _JSON, nullable=False),
        sa.Column("keys", _JSON, nullable=False),
        sa.Column("containers", sa.BigInteger(), nullable=False),
        sa.Column("items", sa.BigInteger(), nullable=False),
        sa.Column("objects", sa.BigInteger(), nullable=False),
        sa.Column("begun_at", _MOMENT),
        sa.Column("finished_at", _MOMENT),
        sa.Column("certificate", sa.LargeBinary()),
        sa.ForeignKeyConstraint(["id"], ["approvals.id"], name=op.f("fk_purges_id")),
        sa.ForeignKeyConstraint(["policy_id"], ["policies.id"], name=op.f("fk_purges_policy_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_purges")),
    )
    op.create_index("ix_purges_policy_id", "purges", ["policy_id"])


def _generations() -> None:
    op.create_table(
        "purged_generations",
        sa.Column("purge_id", sa.String(32), nullable=False),
        sa.Column("container_id", sa.String(36), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("policy_key_generation", sa.Integer(), nullable=False),
        sa.Column("commitment", sa.LargeBinary(32), nullable=False),
        sa.ForeignKeyConstraint(["purge_id"], ["purges.id"], name=op.f("fk_purged_generations_purge_id")),
        sa.PrimaryKeyConstraint("purge_id", "container_id", "generation", name=op.f("pk_purged_generations")),
    )
