"""Approvals: the installation's own id, approvers, and what they sign.

Revision: 0005
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_MOMENT = sa.DateTime(timezone=True)
_JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Make the new tables."""
    op.create_table(
        "installation",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("id", sa.String(32), nullable=False),
        sa.CheckConstraint("number = 1", name=op.f("ck_installation_single")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_installation")),
    )
    _approver_changes()
    _approvals()
    _signatures()
    _steps()


def downgrade() -> None:
    """Drop them, with all that is in them."""
    for table in ("approval_steps", "approval_signatures", "approvals", "approver_changes", "installation"):
        op.drop_table(table)


def _approver_changes() -> None:
    op.create_table(
        "approver_changes",
        sa.Column("tenant_id", sa.String(36), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("change", sa.String(10), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("public_key", sa.LargeBinary(32), nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.Column("counts_from", _MOMENT, nullable=False),
        sa.Column("statement", sa.LargeBinary(), nullable=False),
        sa.Column("signatures", _JSON, nullable=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.Column("announced", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_approver_changes_tenant_id")),
        sa.PrimaryKeyConstraint("tenant_id", "number", name=op.f("pk_approver_changes")),
        sa.UniqueConstraint(
            "tenant_id", "fingerprint", "change", name=op.f("uq_approver_changes_tenant_id_fingerprint_change")
        ),
    )


def _approvals() -> None:
    op.create_table(
        "approvals",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("tenant_id", sa.String(36), nullable=False),
        sa.Column("policy_id", sa.String(36)),
        sa.Column("action", sa.String(20), nullable=False),
        sa.Column("subject", sa.String(200), nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("statement", sa.LargeBinary(), nullable=False),
        sa.Column("public_key", sa.LargeBinary(32)),
        sa.Column("requested_at", _MOMENT, nullable=False),
        sa.Column("expires_at", _MOMENT, nullable=False),
        sa.Column("due", _MOMENT),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["policy_id"], ["policies.id"], name=op.f("fk_approvals_policy_id")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_approvals_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_approvals")),
    )
    op.create_index("ix_approvals_tenant_id_state", "approvals", ["tenant_id", "state"])
    op.create_index("ix_approvals_state_expires_at", "approvals", ["state", "expires_at"])


def _signatures() -> None:
    op.create_table(
        "approval_signatures",
        sa.Column("approval_id", sa.String(32), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("signature", sa.LargeBinary(64), nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["approval_id"], ["approvals.id"], name=op.f("fk_approval_signatures_approval_id")),
        sa.PrimaryKeyConstraint("approval_id", "fingerprint", name=op.f("pk_approval_signatures")),
    )


def _steps() -> None:
    op.create_table(
        "approval_steps",
        sa.Column("number", _NUMBER, nullable=False),
        sa.Column("approval_id", sa.String(32), nullable=False),
        sa.Column("step", sa.String(10), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("approver", sa.String(63)),
        sa.Column("approvals", sa.Integer(), nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.Column("announced", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["approval_id"], ["approvals.id"], name=op.f("fk_approval_steps_approval_id")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_approval_steps")),
    )
    op.create_index("ix_approval_steps_approval_id", "approval_steps", ["approval_id"])
