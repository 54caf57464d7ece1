"""Revocations outlive their policies: the newest number never goes back.

Revision: 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_KEY = "fk_revocations_policy_id"


def upgrade() -> None:
    """Let a row name a policy that is gone."""
    with op.batch_alter_table("revocations") as table:
        table.drop_constraint(_KEY, type_="foreignkey")


def downgrade() -> None:
    """Forget the revocations of policies that are gone."""
    gone = sa.text("DELETE FROM revocations WHERE policy_id NOT IN (SELECT id FROM policies)")
    op.execute(gone)
    with op.batch_alter_table("revocations") as table:
        table.create_foreign_key(op.f(_KEY), "policies", ["policy_id"], ["id"])
