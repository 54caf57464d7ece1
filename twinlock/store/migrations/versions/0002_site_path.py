"""The site path: files, geos, and the epoch of revocations.

Revision: 0002
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_MOMENT = sa.DateTime(timezone=True)
_JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Give containers a geo, and make the new tables."""
    op.add_column("containers", sa.Column("geo", sa.String(32)))
    op.create_index("ix_containers_tenant_id_geo_id", "containers", ["tenant_id", "geo", "id"])
    _files()
    _revocations()
    _custodians()
    _geos()


def downgrade() -> None:
    """Drop them, with all that is in them; objects of files stay where they are."""
    for table in ("geos", "custodians", "revocations", "files"):
        op.drop_table(table)
    op.drop_index("ix_containers_tenant_id_geo_id", "containers")
    op.drop_column("containers", "geo")


def _files() -> None:
    op.create_table(
        "files",
        sa.Column("container_id", sa.String(36), nullable=False),
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("path", sa.LargeBinary(2000), nullable=False),
        sa.Column("generation", sa.Integer()),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("wrapped_key", sa.LargeBinary()),
        sa.Column("content_mac", sa.LargeBinary(16)),
        sa.Column("object_name", sa.String(200)),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.CheckConstraint("(object_name IS NULL) = (generation IS NULL)", name=op.f("ck_files_blob_has_generation")),
        sa.CheckConstraint("(object_name IS NULL) = (wrapped_key IS NULL)", name=op.f("ck_files_blob_has_key")),
        sa.CheckConstraint("(object_name IS NULL) = (content_mac IS NULL)", name=op.f("ck_files_blob_has_mac")),
        sa.ForeignKeyConstraint(
            ["container_id", "generation"],
            ["container_keys.container_id", "container_keys.generation"],
            name=op.f("fk_files_container_id_generation"),
        ),
        sa.PrimaryKeyConstraint("container_id", "id", name=op.f("pk_files")),
        sa.UniqueConstraint("container_id", "path", name=op.f("uq_files_container_id_path")),
    )
    op.create_index("ix_files_container_id_generation_id", "files", ["container_id", "generation", "id"])


def _revocations() -> None:
    op.create_table(
        "revocations",
        sa.Column("number", _NUMBER, nullable=False),
        sa.Column("policy_id", sa.String(36), nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.Column("publisher", sa.String(100), nullable=False),
        sa.Column("announced", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["policy_id"], ["policies.id"], name=op.f("fk_revocations_policy_id")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_revocations")),
    )
    op.create_index("ix_revocations_policy_id", "revocations", ["policy_id"])


def _custodians() -> None:
    op.create_table(
        "custodians",
        sa.Column("instance", sa.String(150), nullable=False),
        sa.Column("name", sa.String(40), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("confirmed_at", _MOMENT, nullable=False),
        sa.Column("registered_at", _MOMENT, nullable=False),
        sa.Column("report", _JSON, nullable=False),
        sa.PrimaryKeyConstraint("instance", name=op.f("pk_custodians")),
    )


def _geos() -> None:
    op.create_table(
        "geos",
        sa.Column("tenant_id", sa.String(36), nullable=False),
        sa.Column("geo", sa.String(32), nullable=False),
        sa.Column("policy_id", sa.String(36), nullable=False),
        sa.Column("state", sa.String(12), nullable=False),
        sa.Column("since", _MOMENT, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["policy_id"], ["policies.id"], name=op.f("fk_geos_policy_id")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_geos_tenant_id")),
        sa.PrimaryKeyConstraint("tenant_id", "geo", name=op.f("pk_geos")),
    )
