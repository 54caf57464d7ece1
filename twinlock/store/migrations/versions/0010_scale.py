"""Indexes that keep recurring queries independent of how much there is, and ages to forget rows by.

On PostgreSQL the indexes are built while everybody works: no table is locked, and each is committed by itself. Whoever
was cut off in the middle begins again, and finds what is there.

Revision: 0010
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

# name, table, columns, and the rows that are in it where these are not all
_NEW: tuple[tuple[str, str, list[str], str], ...] = (
    ("ix_jobs_worker_tenant_id_turn_id", "jobs", ["worker", "tenant_id", "turn", "id"], ""),
    ("ix_jobs_worker_tenant_id_not_before", "jobs", ["worker", "tenant_id", "not_before"], ""),
    ("ix_jobs_lease_owner", "jobs", ["lease_owner"], "lease_owner IS NOT NULL"),
    ("ix_jobs_untold", "jobs", ["worker", "target_at"], "overdue IS NULL"),
    ("ix_jobs_overdue", "jobs", ["policy_id"], "overdue IS NOT NULL"),
    ("ix_turns_worker_turn", "turns", ["worker", "turn"], ""),
    ("ix_alerts_tenant_id", "alerts", ["tenant", "id"], ""),
    ("ix_alerts_resolved_at", "alerts", ["resolved_at"], ""),
    ("ix_alerts_open", "alerts", ["id"], "ongoing IS NOT NULL"),
    ("ix_approver_changes_untold", "approver_changes", ["tenant_id", "number"], "announced IS false"),
    ("ix_approval_steps_untold", "approval_steps", ["number"], "announced IS false"),
    ("ix_revocations_untold", "revocations", ["number"], "announced IS false"),
    ("ix_deliveries_consumer_not_before_number", "deliveries", ["consumer", "not_before", "number"], ""),
    ("ix_dead_letters_correlation", "dead_letters", ["correlation"], ""),
    ("ix_dead_letters_source_id", "dead_letters", ["source", "id"], ""),
    ("ix_container_keys_policy_id_container_id", "container_keys", ["policy_id", "container_id"], ""),
    ("ix_container_wraps_policy_id_container_id", "container_wraps", ["policy_id", "container_id"], ""),
    ("ix_object_intents_name_prefix", "object_intents", ["name"], ""),
    ("ix_superseded_objects_name_prefix", "superseded_objects", ["name"], ""),
    ("ix_policy_key_copies_uri", "policy_key_copies", ["uri"], ""),
    ("ix_availability_keys_state", "availability_keys", ["state"], ""),
    ("ix_audit_entries_at_writer_sequence", "audit_entries", ["at", "writer", "sequence"], ""),
    (
        "ix_audit_entries_tenant_id_at_writer_sequence",
        "audit_entries",
        ["tenant_id", "at", "writer", "sequence"],
        "",
    ),
)
_OLD: tuple[tuple[str, str, list[str], str], ...] = (
    ("ix_jobs_worker_tenant_id_turn", "jobs", ["worker", "tenant_id", "turn"], ""),
    ("ix_deliveries_consumer_not_before", "deliveries", ["consumer", "not_before"], ""),
)


def upgrade() -> None:
    """Build the indexes, then the rest in one transaction."""
    if op.get_bind().dialect.name == "postgresql":
        with op.get_context().autocommit_block():
            for name, table, columns, where in _NEW:
                # One that was cut off is there, and of no use.
                op.drop_index(op.f(name), table, if_exists=True, postgresql_concurrently=True)
                _create(name, table, columns, where, concurrently=True)
            for name, table, _columns, _where in _OLD:
                op.drop_index(op.f(name), table, if_exists=True, postgresql_concurrently=True)
    else:
        _replace(_OLD, _NEW)
    # First, while nothing is locked that whoever works on a job waits for.
    op.execute("UPDATE jobs SET target_at = created_at WHERE target_at IS NULL")
    op.add_column("assignment_outcomes", sa.Column("at", sa.DateTime(timezone=True)))
    op.create_index(op.f("ix_assignment_outcomes_at"), "assignment_outcomes", ["at"])
    op.create_table(
        "shape",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("oldest", sa.String(32), nullable=False),
        sa.CheckConstraint("number = 1", name=op.f("ck_shape_single")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_shape")),
    )
    op.execute("INSERT INTO shape (number, oldest) VALUES (1, '0009')")


def downgrade() -> None:
    """Go back to the old indexes, and forget how old the lists of assignments are."""
    op.drop_table("shape")
    op.drop_index(op.f("ix_assignment_outcomes_at"), "assignment_outcomes")
    with op.batch_alter_table("assignment_outcomes") as table:
        table.drop_column("at")
    _replace(_NEW, _OLD)


def _replace(old: Sequence[tuple[str, str, list[str], str]], new: Sequence[tuple[str, str, list[str], str]]) -> None:
    for name, table, _columns, _where in old:
        op.drop_index(op.f(name), table)
    for name, table, columns, where in new:
        _create(name, table, columns, where)


def _create(name: str, table: str, columns: list[str], where: str, *, concurrently: bool = False) -> None:
    op.create_index(
        op.f(name),
        table,
        columns,
        sqlite_where=sa.text(where.replace("IS false", "IS 0")) if where else None,
        postgresql_where=sa.text(where) if where else None,
        postgresql_concurrently=concurrently,
        postgresql_ops={"name": "varchar_pattern_ops"} if name.endswith("_name_prefix") else {},
    )
