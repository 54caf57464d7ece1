"""The mailbox path: tenants, policies, mailboxes, jobs and the bus.

Revision: 0001
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make every table, each after those that it refers to."""
    _assignment_outcomes()
    _audit_entries()
    _dead_letters()
    _deliveries()
    _enrolled_workers()
    _inbox()
    _jobs()
    _object_intents()
    _outbox()
    _publishers()
    _requests()
    _superseded_objects()
    _taken_requests()
    _tenants()
    _turns()
    _wake_slots()
    _publisher_tenants()
    _publisher_types()
    _policies()
    _availability_keys()
    _containers()
    _policy_keys()
    _root_keys()
    _container_keys()
    _evidence()
    _policy_key_copies()
    _root_key_pins()
    _verdicts()
    _items()


def downgrade() -> None:
    """Drop every table, with all that is in it."""
    for table in (
        "items",
        "verdicts",
        "root_key_pins",
        "policy_key_copies",
        "evidence",
        "container_keys",
        "root_keys",
        "policy_keys",
        "containers",
        "availability_keys",
        "policies",
        "publisher_types",
        "publisher_tenants",
        "wake_slots",
        "turns",
        "tenants",
        "taken_requests",
        "superseded_objects",
        "requests",
        "publishers",
        "outbox",
        "object_intents",
        "jobs",
        "inbox",
        "enrolled_workers",
        "deliveries",
        "dead_letters",
        "audit_entries",
        "assignment_outcomes",
    ):
        op.drop_table(table)


def _assignment_outcomes() -> None:
    op.create_table(
        "assignment_outcomes",
        sa.Column("job_id", sa.String(150), nullable=False),
        sa.Column("container", sa.String(320), nullable=False),
        sa.Column("outcome", sa.String(10), nullable=False),
        sa.Column("reason", sa.String(500), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "container", name=op.f("pk_assignment_outcomes")),
    )


def _audit_entries() -> None:
    op.create_table(
        "audit_entries",
        sa.Column("writer", sa.String(64), nullable=False),
        sa.Column("sequence", _NUMBER, autoincrement=False, nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("tenant_id", sa.String(36)),
        sa.Column("policy_id", sa.String(36)),
        sa.Column("detail", _JSON, nullable=False),
        sa.Column("mac", sa.LargeBinary(32), nullable=False),
        sa.PrimaryKeyConstraint("writer", "sequence", name=op.f("pk_audit_entries")),
    )


def _dead_letters() -> None:
    op.create_table(
        "dead_letters",
        sa.Column("number", _NUMBER, nullable=False),
        sa.Column("consumer", sa.String(40), nullable=False),
        sa.Column("publisher", sa.String(100), nullable=False),
        sa.Column("source", sa.String(200), nullable=False),
        sa.Column("id", sa.String(100), nullable=False),
        sa.Column("type", sa.String(100), nullable=False),
        sa.Column("correlation", sa.String(100), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(500), nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_dead_letters")),
    )


def _deliveries() -> None:
    op.create_table(
        "deliveries",
        sa.Column("number", _NUMBER, nullable=False),
        sa.Column("consumer", sa.String(40), nullable=False),
        sa.Column("publisher", sa.String(100), nullable=False),
        sa.Column("source", sa.String(200), nullable=False),
        sa.Column("id", sa.String(100), nullable=False),
        sa.Column("type", sa.String(100), nullable=False),
        sa.Column("correlation", sa.String(100), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("not_before", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_deliveries")),
        sa.UniqueConstraint(
            "consumer", "publisher", "source", "id", name=op.f("uq_deliveries_consumer_publisher_source_id")
        ),
    )
    op.create_index("ix_deliveries_consumer_not_before", "deliveries", ["consumer", "not_before"])
    op.create_index("ix_deliveries_correlation", "deliveries", ["correlation"])


def _enrolled_workers() -> None:
    op.create_table(
        "enrolled_workers",
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("name", sa.String(40), nullable=False),
        sa.Column("public_key", sa.LargeBinary(32), nullable=False),
        sa.Column("login", sa.String(100)),
        sa.Column("enrolled_at", _MOMENT, nullable=False),
        sa.Column("retired_at", _MOMENT),
        sa.PrimaryKeyConstraint("fingerprint", name=op.f("pk_enrolled_workers")),
    )
    op.create_index("ix_enrolled_workers_name", "enrolled_workers", ["name"])


def _inbox() -> None:
    op.create_table(
        "inbox",
        sa.Column("consumer", sa.String(40), nullable=False),
        sa.Column("publisher", sa.String(100), nullable=False),
        sa.Column("source", sa.String(200), nullable=False),
        sa.Column("id", sa.String(100), nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("consumer", "publisher", "source", "id", name=op.f("pk_inbox")),
    )
    op.create_index("ix_inbox_at", "inbox", ["at"])


def _jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(150), nullable=False),
        sa.Column("worker", sa.String(40), nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("tenant_id", sa.String(36), nullable=False),
        sa.Column("container_id", sa.String(36)),
        sa.Column("policy_id", sa.String(36)),
        sa.Column("payload", _JSON, nullable=False),
        sa.Column("cursor", sa.String(400)),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("done", sa.BigInteger(), nullable=False),
        sa.Column("not_before", _MOMENT, nullable=False),
        sa.Column("trouble", sa.String(500), nullable=False),
        sa.Column("lease_owner", sa.String(64)),
        sa.Column("lease_until", _MOMENT),
        sa.Column("fencing", sa.BigInteger(), nullable=False),
        sa.Column("turn", sa.BigInteger(), nullable=False),
        sa.Column("correlation", sa.String(100), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("progressed_at", _MOMENT),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
    )
    op.create_index("ix_jobs_container_id", "jobs", ["container_id"])
    op.create_index("ix_jobs_correlation", "jobs", ["correlation"])
    op.create_index("ix_jobs_worker_not_before", "jobs", ["worker", "not_before"])
    op.create_index("ix_jobs_worker_tenant_id_turn", "jobs", ["worker", "tenant_id", "turn"])


def _object_intents() -> None:
    op.create_table(
        "object_intents",
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("expires_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_object_intents")),
    )
    op.create_index("ix_object_intents_expires_at", "object_intents", ["expires_at"])


def _outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("number", _NUMBER, nullable=False),
        sa.Column("source", sa.String(200), nullable=False),
        sa.Column("id", sa.String(100), nullable=False),
        sa.Column("publisher", sa.String(100), nullable=False),
        sa.Column("type", sa.String(100), nullable=False),
        sa.Column("correlation", sa.String(100), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("not_before", _MOMENT),
        sa.Column("lease_owner", sa.String(32)),
        sa.Column("lease_until", _MOMENT),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_outbox")),
        sa.UniqueConstraint("source", "id", name=op.f("uq_outbox_source_id")),
    )
    op.create_index("ix_outbox_correlation", "outbox", ["correlation"])
    op.create_index("ix_outbox_publisher_number", "outbox", ["publisher", "number"])


def _publishers() -> None:
    op.create_table(
        "publishers",
        sa.Column("user", sa.String(100), nullable=False),
        sa.Column("all_tenants", sa.Boolean(), nullable=False),
        sa.Column("added_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("user", name=op.f("pk_publishers")),
    )


def _publisher_tenants() -> None:
    op.create_table(
        "publisher_tenants",
        sa.Column("user", sa.String(100), nullable=False),
        sa.Column("tenant_id", sa.String(36), nullable=False),
        sa.PrimaryKeyConstraint("user", "tenant_id", name=op.f("pk_publisher_tenants")),
        sa.ForeignKeyConstraint(
            ["user"], ["publishers.user"], name=op.f("fk_publisher_tenants_user"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f("fk_publisher_tenants_tenant_id"), ondelete="CASCADE"
        ),
    )


def _publisher_types() -> None:
    op.create_table(
        "publisher_types",
        sa.Column("user", sa.String(100), nullable=False),
        sa.Column("type", sa.String(100), nullable=False),
        sa.PrimaryKeyConstraint("user", "type", name=op.f("pk_publisher_types")),
        sa.ForeignKeyConstraint(
            ["user"], ["publishers.user"], name=op.f("fk_publisher_types_user"), ondelete="CASCADE"
        ),
    )


def _requests() -> None:
    op.create_table(
        "requests",
        sa.Column("source", sa.String(200), nullable=False),
        sa.Column("id", sa.String(100), nullable=False),
        sa.Column("publisher", sa.String(100), nullable=False),
        sa.Column("type", sa.String(100), nullable=False),
        sa.Column("correlation", sa.String(100), nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("accepted", sa.Boolean(), nullable=False),
        sa.Column("outcome", sa.String(10)),
        sa.Column("answer", _JSON, nullable=False),
        sa.Column("received_at", _MOMENT, nullable=False),
        sa.Column("finished_at", _MOMENT),
        sa.PrimaryKeyConstraint("source", "id", name=op.f("pk_requests")),
    )
    op.create_index("ix_requests_correlation", "requests", ["correlation"])


def _superseded_objects() -> None:
    op.create_table(
        "superseded_objects",
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("superseded_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_superseded_objects")),
    )
    op.create_index("ix_superseded_objects_superseded_at", "superseded_objects", ["superseded_at"])


def _taken_requests() -> None:
    op.create_table(
        "taken_requests",
        sa.Column("caller", sa.String(40), nullable=False),
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("until", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("caller", "id", name=op.f("pk_taken_requests")),
    )
    op.create_index("ix_taken_requests_until", "taken_requests", ["until"])


def _tenants() -> None:
    op.create_table(
        "tenants",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("trial", sa.Boolean(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tenants")),
        sa.UniqueConstraint("name", name=op.f("uq_tenants_name")),
    )


def _turns() -> None:
    op.create_table(
        "turns",
        sa.Column("worker", sa.String(40), nullable=False),
        sa.Column("tenant_id", sa.String(36), nullable=False),
        sa.Column("turn", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("worker", "tenant_id", name=op.f("pk_turns")),
    )


def _wake_slots() -> None:
    op.create_table(
        "wake_slots",
        sa.Column("worker", sa.String(40), nullable=False),
        sa.Column("slot", sa.Integer(), nullable=False),
        sa.Column("event_id", sa.String(100)),
        sa.Column("since", _MOMENT),
        sa.PrimaryKeyConstraint("worker", "slot", name=op.f("pk_wake_slots")),
    )


def _policies() -> None:
    op.create_table(
        "policies",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("tenant_id", sa.String(36), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("workload", sa.String(10), nullable=False),
        sa.Column("geo", sa.String(32)),
        sa.Column("mode", sa.String(16), nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("health", sa.String(10), nullable=False),
        sa.Column("newest_generation", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_policies_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_policies")),
        sa.UniqueConstraint("tenant_id", "name", name=op.f("uq_policies_tenant_id_name")),
    )


def _availability_keys() -> None:
    op.create_table(
        "availability_keys",
        sa.Column("policy_id", sa.String(36), nullable=False),
        sa.Column("uri", sa.String(500), nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.ForeignKeyConstraint(["policy_id"], ["policies.id"], name=op.f("fk_availability_keys_policy_id")),
        sa.PrimaryKeyConstraint("policy_id", "uri", name=op.f("pk_availability_keys")),
    )


def _containers() -> None:
    op.create_table(
        "containers",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("tenant_id", sa.String(36), nullable=False),
        sa.Column("workload", sa.String(10), nullable=False),
        sa.Column("name", sa.String(320), nullable=False),
        sa.Column("kind", sa.String(10), nullable=False),
        sa.Column("licensed", sa.Boolean(), nullable=False),
        sa.Column("policy_id", sa.String(36), nullable=False),
        sa.Column("newest_generation", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["policy_id"], ["policies.id"], name=op.f("fk_containers_policy_id")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_containers_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_containers")),
        sa.UniqueConstraint("workload", "name", name=op.f("uq_containers_workload_name")),
    )
    op.create_index("ix_containers_policy_id", "containers", ["policy_id"])
    op.create_index("ix_containers_tenant_id_workload_name", "containers", ["tenant_id", "workload", "name"])


def _policy_keys() -> None:
    op.create_table(
        "policy_keys",
        sa.Column("policy_id", sa.String(36), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("commitment", sa.LargeBinary(32), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["policy_id"], ["policies.id"], name=op.f("fk_policy_keys_policy_id")),
        sa.PrimaryKeyConstraint("policy_id", "generation", name=op.f("pk_policy_keys")),
    )


def _root_keys() -> None:
    op.create_table(
        "root_keys",
        sa.Column("policy_id", sa.String(36), nullable=False),
        sa.Column("slot", sa.String(1), nullable=False),
        sa.Column("uri", sa.String(500), nullable=False),
        sa.Column("identity", sa.String(200), nullable=False),
        sa.Column("version", sa.String(100), nullable=False),
        sa.ForeignKeyConstraint(["policy_id"], ["policies.id"], name=op.f("fk_root_keys_policy_id")),
        sa.PrimaryKeyConstraint("policy_id", "slot", name=op.f("pk_root_keys")),
    )


def _container_keys() -> None:
    op.create_table(
        "container_keys",
        sa.Column("container_id", sa.String(36), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("policy_id", sa.String(36), nullable=False),
        sa.Column("policy_key_generation", sa.Integer(), nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False),
        sa.Column("commitment", sa.LargeBinary(32), nullable=False),
        sa.Column("item_count", sa.BigInteger(), nullable=False),
        sa.Column("encrypted_count", sa.BigInteger(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.CheckConstraint("item_count >= 0", name=op.f("ck_container_keys_count_not_negative")),
        sa.ForeignKeyConstraint(["container_id"], ["containers.id"], name=op.f("fk_container_keys_container_id")),
        sa.ForeignKeyConstraint(
            ["policy_id", "policy_key_generation"],
            ["policy_keys.policy_id", "policy_keys.generation"],
            name=op.f("fk_container_keys_policy_id_policy_key_generation"),
        ),
        sa.PrimaryKeyConstraint("container_id", "generation", name=op.f("pk_container_keys")),
    )
    op.create_index(
        "ix_container_keys_policy_id_policy_key_generation", "container_keys", ["policy_id", "policy_key_generation"]
    )


def _evidence() -> None:
    op.create_table(
        "evidence",
        sa.Column("number", _NUMBER, nullable=False),
        sa.Column("policy_id", sa.String(36), nullable=False),
        sa.Column("slot", sa.String(1), nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.ForeignKeyConstraint(
            ["policy_id", "slot"], ["root_keys.policy_id", "root_keys.slot"], name=op.f("fk_evidence_policy_id_slot")
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_evidence")),
    )
    op.create_index("ix_evidence_policy_slot_at", "evidence", ["policy_id", "slot", "at"])


def _policy_key_copies() -> None:
    op.create_table(
        "policy_key_copies",
        sa.Column("policy_id", sa.String(36), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("slot", sa.String(12), nullable=False),
        sa.Column("uri", sa.String(500), nullable=False),
        sa.Column("key_version", sa.String(100), nullable=False),
        sa.Column("identity", sa.String(200), nullable=False),
        sa.Column("ciphertext", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["policy_id", "generation"],
            ["policy_keys.policy_id", "policy_keys.generation"],
            name=op.f("fk_policy_key_copies_policy_id_generation"),
        ),
        sa.PrimaryKeyConstraint("policy_id", "generation", "slot", name=op.f("pk_policy_key_copies")),
    )


def _root_key_pins() -> None:
    op.create_table(
        "root_key_pins",
        sa.Column("policy_id", sa.String(36), nullable=False),
        sa.Column("slot", sa.String(1), nullable=False),
        sa.Column("version", sa.String(100), nullable=False),
        sa.Column("fingerprint", sa.String(200), nullable=False),
        sa.Column("pinned_at", _MOMENT, nullable=False),
        sa.ForeignKeyConstraint(
            ["policy_id", "slot"],
            ["root_keys.policy_id", "root_keys.slot"],
            name=op.f("fk_root_key_pins_policy_id_slot"),
        ),
        sa.PrimaryKeyConstraint("policy_id", "slot", "version", name=op.f("pk_root_key_pins")),
    )


def _verdicts() -> None:
    op.create_table(
        "verdicts",
        sa.Column("policy_id", sa.String(36), nullable=False),
        sa.Column("slot", sa.String(1), nullable=False),
        sa.Column("definite", sa.String(16)),
        sa.Column("definite_at", _MOMENT),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("since", _MOMENT, nullable=False),
        sa.Column("checked_at", _MOMENT, nullable=False),
        sa.Column("exact", sa.Boolean(), nullable=False),
        sa.Column("detail", sa.String(1000), nullable=False),
        sa.Column("raw", sa.String(1000), nullable=False),
        sa.Column("request_id", sa.String(200), nullable=False),
        sa.Column("classifier", sa.String(50), nullable=False),
        sa.ForeignKeyConstraint(
            ["policy_id", "slot"], ["root_keys.policy_id", "root_keys.slot"], name=op.f("fk_verdicts_policy_id_slot")
        ),
        sa.PrimaryKeyConstraint("policy_id", "slot", name=op.f("pk_verdicts")),
    )


def _items() -> None:
    op.create_table(
        "items",
        sa.Column("container_id", sa.String(36), nullable=False),
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(3), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("format", sa.String(10), nullable=False),
        sa.Column("object_name", sa.String(200)),
        sa.Column("import_mac", sa.LargeBinary(32), nullable=False),
        sa.Column("occurrence", sa.Integer(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("body", sa.LargeBinary()),
        sa.CheckConstraint("(body IS NULL) <> (object_name IS NULL)", name=op.f("ck_items_one_place")),
        sa.ForeignKeyConstraint(
            ["container_id", "generation"],
            ["container_keys.container_id", "container_keys.generation"],
            name=op.f("fk_items_container_id_generation"),
        ),
        sa.PrimaryKeyConstraint("container_id", "id", name=op.f("pk_items")),
        sa.UniqueConstraint(
            "container_id",
            "generation",
            "import_mac",
            "occurrence",
            name=op.f("uq_items_container_id_generation_import_mac_occurrence"),
        ),
    )
