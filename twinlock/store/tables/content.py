"""Containers, their key generations and items; owned by the content part and the re-encryptors."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    UniqueConstraint,
)

from twinlock.store.tables.base import UtcDateTime, metadata

# How names begin is looked up byte by byte, whatever order of words the database has.
_PREFIX = {"name": "varchar_pattern_ops"}
MAX_PATH_BYTES = 2000  # an entry of a unique index of PostgreSQL has room for 2,704 bytes

containers = Table(
    "containers",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("tenant_id", ForeignKey("tenants.id"), nullable=False),
    Column("workload", String(10), nullable=False),
    Column("name", String(320), nullable=False),
    Column("kind", String(10), nullable=False),
    Column("licensed", Boolean, nullable=False),
    Column("geo", String(32)),  # a site's; a site's name is TENANT/SITE
    Column("policy_id", ForeignKey("policies.id"), nullable=False),
    Column("newest_generation", Integer, nullable=False),
    Column("version", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    UniqueConstraint("workload", "name"),
    Index("ix_containers_tenant_id_workload_name", "tenant_id", "workload", "name"),
    Index("ix_containers_policy_id", "policy_id"),
    Index("ix_containers_tenant_id_geo_id", "tenant_id", "geo", "id"),
)

# One row a generation of a container key. `item_count` is how many items or files lie under it now, kept exact by every
# transaction that adds, moves or deletes one; `encrypted_count` is how many it has ever encrypted (at most 2**31).
container_keys = Table(
    "container_keys",
    metadata,
    Column("container_id", ForeignKey("containers.id"), primary_key=True),
    Column("generation", Integer, primary_key=True),
    Column("policy_id", String(36), nullable=False),
    Column("policy_key_generation", Integer, nullable=False),
    Column("wrapped", LargeBinary, nullable=False),
    Column("commitment", LargeBinary(32), nullable=False),
    Column("item_count", BigInteger, nullable=False),
    Column("encrypted_count", BigInteger, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    ForeignKeyConstraint(["policy_id", "policy_key_generation"], ["policy_keys.policy_id", "policy_keys.generation"]),
    Index("ix_container_keys_policy_id_policy_key_generation", "policy_id", "policy_key_generation"),
    Index("ix_container_keys_policy_id_container_id", "policy_id", "container_id"),
    CheckConstraint("item_count >= 0", name="count_not_negative"),
)

# Law 3: the foreign key has the database refuse to destroy a generation while an item is left under it.
items = Table(
    "items",
    metadata,
    Column("container_id", String(36), primary_key=True),
    Column("id", String(32), primary_key=True),
    Column("generation", Integer, nullable=False),
    Column("version", Integer, nullable=False),
    Column("kind", String(3), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("format", String(10), nullable=False),
    Column("object_name", String(200)),
    Column("import_mac", LargeBinary(32), nullable=False),
    Column("occurrence", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("body", LargeBinary),
    ForeignKeyConstraint(["container_id", "generation"], ["container_keys.container_id", "container_keys.generation"]),
    UniqueConstraint("container_id", "generation", "import_mac", "occurrence"),
    CheckConstraint("(body IS NULL) <> (object_name IS NULL)", name="one_place"),
)

# Files of sites, each one blob under its own key, which the site key of `generation` wraps; law 3 as above. `path` is
# the name as the file system has it, in bytes. An empty folder has a row, too: its path ends in a slash, and it has
# neither key nor object, and lies under no generation.
files = Table(
    "files",
    metadata,
    Column("container_id", String(36), primary_key=True),
    Column("id", String(32), primary_key=True),
    Column("path", LargeBinary(MAX_PATH_BYTES), nullable=False),
    Column("generation", Integer),
    Column("version", Integer, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("wrapped_key", LargeBinary),
    Column("content_mac", LargeBinary(16)),
    Column("object_name", String(200)),
    Column("created_at", UtcDateTime, nullable=False),
    ForeignKeyConstraint(["container_id", "generation"], ["container_keys.container_id", "container_keys.generation"]),
    UniqueConstraint("container_id", "path"),
    Index("ix_files_container_id_generation_id", "container_id", "generation", "id"),
    CheckConstraint("(object_name IS NULL) = (generation IS NULL)", name="blob_has_generation"),
    CheckConstraint("(object_name IS NULL) = (wrapped_key IS NULL)", name="blob_has_key"),
    CheckConstraint("(object_name IS NULL) = (content_mac IS NULL)", name="blob_has_mac"),
)

# Law 14: an upload's intent is committed before the object is written.
object_intents = Table(
    "object_intents",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("expires_at", UtcDateTime, nullable=False),
    Index("ix_object_intents_expires_at", "expires_at"),
    Index("ix_object_intents_name_prefix", "name", postgresql_ops=_PREFIX),
)

superseded_objects = Table(
    "superseded_objects",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("superseded_at", UtcDateTime, nullable=False),
    Index("ix_superseded_objects_superseded_at", "superseded_at"),
    Index("ix_superseded_objects_name_prefix", "name", postgresql_ops=_PREFIX),
)

# Which policies, beside the one that it is under, have ever wrapped keys of a container: of what generation the newest
# was, and until when. What was backed up before is readable through that policy. It outlives a purged container.
container_wraps = Table(
    "container_wraps",
    metadata,
    Column("container_id", String(36), primary_key=True),
    Column("policy_id", ForeignKey("policies.id"), primary_key=True),
    Column("generation", Integer, nullable=False),
    Column("until", UtcDateTime, nullable=False),
    Index("ix_container_wraps_policy_id_container_id", "policy_id", "container_id"),
)
