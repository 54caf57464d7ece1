"""Where the audit log begins once its past was exported and pruned.

Revision: 0011
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the table of cuts."""
    op.create_table(
        "audit_cuts",
        sa.Column("seal", _NUMBER, autoincrement=False, nullable=False),
        sa.Column("writer", sa.String(64), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seal", name=op.f("pk_audit_cuts")),
    )


def downgrade() -> None:
    """Forget where the log begins: an older program finds it broken where it was pruned."""
    op.drop_table("audit_cuts")
