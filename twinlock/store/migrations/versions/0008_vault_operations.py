"""How often vaults were asked, by policy, vault, operation and day.

Revision: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the new table; nothing is known of what was asked before."""
    op.create_table(
        "vault_operations",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("tenant_id", sa.String(36), nullable=False),
        sa.Column("policy_id", sa.String(36), nullable=False),
        sa.Column("vault", sa.String(500), nullable=False),
        sa.Column("operation", sa.String(10), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "day", "tenant_id", "policy_id", "vault", "operation", name=op.f("pk_vault_operations")
        ),
    )


def downgrade() -> None:
    """Drop it, with all that is in it."""
    op.drop_table("vault_operations")
