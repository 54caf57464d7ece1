"""The chain of the audit log: seals, checkpoints, and who seals.

Revision: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the new tables; entries that are there already are sealed by the first pass."""
    op.create_table(
        "audit_seals",
        sa.Column("number", _NUMBER, autoincrement=False, nullable=False),
        sa.Column("writer", sa.String(64), nullable=False),
        sa.Column("first", sa.BigInteger(), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.Column("entries", sa.BigInteger(), nullable=False),
        sa.Column("head", sa.LargeBinary(32), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_audit_seals")),
        sa.UniqueConstraint("writer", "last", name=op.f("uq_audit_seals_writer_last")),
    )
    op.create_table(
        "audit_checkpoints",
        sa.Column("seal", _NUMBER, autoincrement=False, nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.Column("statement", sa.LargeBinary(), nullable=False),
        sa.Column("signature", sa.LargeBinary(64), nullable=False),
        sa.PrimaryKeyConstraint("seal", name=op.f("pk_audit_checkpoints")),
    )
    op.create_table(
        "audit_sealing",
        sa.Column("name", sa.String(10), nullable=False),
        sa.Column("owner", sa.String(150)),
        sa.Column("until", _MOMENT),
        sa.Column("broken", sa.String(1000)),
        sa.Column("told", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_audit_sealing")),
    )


def downgrade() -> None:
    """Drop the chain; the entries stay."""
    for table in ("audit_sealing", "audit_checkpoints", "audit_seals"):
        op.drop_table(table)
