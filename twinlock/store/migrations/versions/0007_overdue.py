"""What is found of root keys by a look at them, and work that is overdue.

Revision: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the table and the columns."""
    op.create_table(
        "root_key_looks",
        sa.Column("policy_id", sa.String(36), nullable=False),
        sa.Column("slot", sa.String(1), nullable=False),
        sa.Column("looked_at", _MOMENT, nullable=False),
        sa.Column("version", sa.String(100), nullable=False),
        sa.Column("expires", _MOMENT),
        sa.Column("notice", sa.String(200), nullable=False),
        sa.ForeignKeyConstraint(
            ["policy_id", "slot"],
            ["root_keys.policy_id", "root_keys.slot"],
            name=op.f("fk_root_key_looks_policy_id_slot"),
        ),
        sa.PrimaryKeyConstraint("policy_id", "slot", name=op.f("pk_root_key_looks")),
    )
    op.add_column("jobs", sa.Column("target_at", _MOMENT))
    op.add_column("jobs", sa.Column("overdue", sa.String(8)))


def downgrade() -> None:
    """Drop them, with all that is in them."""
    with op.batch_alter_table("jobs") as jobs:
        jobs.drop_column("overdue")
        jobs.drop_column("target_at")
    op.drop_table("root_key_looks")
