"""Policies, their keys and what their vaults answered; owned by the custodian and the DEP assigner."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    UniqueConstraint,
)

from twinlock.store.tables.base import Json, Serial, UtcDateTime, metadata, partial

policies = Table(
    "policies",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("tenant_id", ForeignKey("tenants.id"), nullable=False),
    Column("name", String(100), nullable=False),
    Column("workload", String(10), nullable=False),
    Column("geo", String(32)),
    Column("mode", String(16), nullable=False),
    Column("state", String(10), nullable=False),
    Column("health", String(10), nullable=False),
    Column("newest_generation", Integer, nullable=False),
    Column("version", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    UniqueConstraint("tenant_id", "name"),
)

root_keys = Table(
    "root_keys",
    metadata,
    Column("policy_id", ForeignKey("policies.id"), primary_key=True),
    Column("slot", String(1), primary_key=True),
    Column("uri", String(500), nullable=False),
    Column("identity", String(200), nullable=False),
    Column("version", String(100), nullable=False),
)

# Law 1: the versions of a root key that were seen to be of one identity.
root_key_pins = Table(
    "root_key_pins",
    metadata,
    Column("policy_id", String(36), primary_key=True),
    Column("slot", String(1), primary_key=True),
    Column("version", String(100), primary_key=True),
    Column("fingerprint", String(200), nullable=False),
    Column("pinned_at", UtcDateTime, nullable=False),
    ForeignKeyConstraint(["policy_id", "slot"], ["root_keys.policy_id", "root_keys.slot"]),
)

# Law 4: the last definite verdict (ok, denied, corrupt) outlives outages and restarts; the last verdict is for people.
verdicts = Table(
    "verdicts",
    metadata,
    Column("policy_id", String(36), primary_key=True),
    Column("slot", String(1), primary_key=True),
    Column("definite", String(16)),
    Column("definite_at", UtcDateTime),
    Column("outcome", String(16), nullable=False),
    Column("since", UtcDateTime, nullable=False),
    Column("checked_at", UtcDateTime, nullable=False),
    Column("exact", Boolean, nullable=False),
    Column("detail", String(1000), nullable=False),
    Column("raw", String(1000), nullable=False),
    Column("request_id", String(200), nullable=False),
    Column("classifier", String(50), nullable=False),
    ForeignKeyConstraint(["policy_id", "slot"], ["root_keys.policy_id", "root_keys.slot"]),
)

# What a look at a root key's description found: when it expires, and what somebody should know of it, or nothing.
root_key_looks = Table(
    "root_key_looks",
    metadata,
    Column("policy_id", String(36), primary_key=True),
    Column("slot", String(1), primary_key=True),
    Column("looked_at", UtcDateTime, nullable=False),
    Column("version", String(100), nullable=False),
    Column("expires", UtcDateTime),
    Column("notice", String(200), nullable=False),
    ForeignKeyConstraint(["policy_id", "slot"], ["root_keys.policy_id", "root_keys.slot"]),
)

# Law 5: counting failures, the only thing that opens the availability key for unavailability.
evidence = Table(
    "evidence",
    metadata,
    Column("number", Serial, primary_key=True),
    Column("policy_id", String(36), nullable=False),
    Column("slot", String(1), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    ForeignKeyConstraint(["policy_id", "slot"], ["root_keys.policy_id", "root_keys.slot"]),
    Index("ix_evidence_policy_slot_at", "policy_id", "slot", "at"),
)

policy_keys = Table(
    "policy_keys",
    metadata,
    Column("policy_id", ForeignKey("policies.id"), primary_key=True),
    Column("generation", Integer, primary_key=True),
    Column("commitment", LargeBinary(32), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)

policy_key_copies = Table(
    "policy_key_copies",
    metadata,
    Column("policy_id", String(36), primary_key=True),
    Column("generation", Integer, primary_key=True),
    Column("slot", String(12), primary_key=True),
    Column("uri", String(500), nullable=False),
    Column("key_version", String(100), nullable=False),
    Column("identity", String(200), nullable=False),
    Column("ciphertext", LargeBinary, nullable=False),
    ForeignKeyConstraint(["policy_id", "generation"], ["policy_keys.policy_id", "policy_keys.generation"]),
    Index("ix_policy_key_copies_uri", "uri"),
)

availability_keys = Table(
    "availability_keys",
    metadata,
    Column("policy_id", ForeignKey("policies.id"), primary_key=True),
    Column("uri", String(500), primary_key=True),
    Column("state", String(10), nullable=False),
    Index("ix_availability_keys_state", "state"),
)

# Law 8: every revocation and every lifting of one, by a rising number; the newest number is the epoch. `announced`
# says whether the events that tell of it are in an outbox. A row outlives its policy: the epoch never goes back.
revocations = Table(
    "revocations",
    metadata,
    Column("number", Serial, primary_key=True),
    Column("policy_id", String(36), nullable=False),
    Column("state", String(10), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("publisher", String(100), nullable=False),
    Column("announced", Boolean, nullable=False),
    Index("ix_revocations_policy_id", "policy_id"),
    partial("ix_revocations_untold", "number", where="announced IS false"),
)

# Law 8: the custodian processes that may serve, and the newest epoch that each has confirmed, on the database's clock.
# `report` is for people: the keys that each holds, and the vaults that do not answer it.
custodians = Table(
    "custodians",
    metadata,
    Column("instance", String(150), primary_key=True),
    Column("name", String(40), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("confirmed_at", UtcDateTime, nullable=False),
    Column("registered_at", UtcDateTime, nullable=False),
    Column("report", Json, nullable=False),
)

# Law 15: per writer a gapless sequence and a MAC; nobody updates or deletes here.
audit_entries = Table(
    "audit_entries",
    metadata,
    Column("writer", String(64), primary_key=True),
    Column("sequence", Serial, primary_key=True, autoincrement=False),
    Column("at", UtcDateTime, nullable=False),
    Column("kind", String(40), nullable=False),
    Column("tenant_id", String(36)),
    Column("policy_id", String(36)),
    Column("detail", Json, nullable=False),
    Column("mac", LargeBinary(32), nullable=False),
    Index("ix_audit_entries_at_writer_sequence", "at", "writer", "sequence"),
    Index("ix_audit_entries_tenant_id_at_writer_sequence", "tenant_id", "at", "writer", "sequence"),
)

# Law 9: whose signatures count, at the custodian and at its callers. A key belongs to one name for good.
enrolled_workers = Table(
    "enrolled_workers",
    metadata,
    Column("fingerprint", String(64), primary_key=True),
    Column("name", String(40), nullable=False),
    Column("public_key", LargeBinary(32), nullable=False),
    Column("login", String(100)),
    Column("enrolled_at", UtcDateTime, nullable=False),
    Column("retired_at", UtcDateTime),
    Index("ix_enrolled_workers_name", "name"),
)

# Law 9: the ids of requests that the custodian has taken, until they have expired.
taken_requests = Table(
    "taken_requests",
    metadata,
    Column("caller", String(40), primary_key=True),
    Column("id", String(32), primary_key=True),
    Column("until", UtcDateTime, nullable=False),
    Index("ix_taken_requests_until", "until"),
)

# Law 15: which entries are chained. A seal covers a run of one writer's entries; `entries` counts all up to its end.
audit_seals = Table(
    "audit_seals",
    metadata,
    Column("number", Serial, primary_key=True, autoincrement=False),
    Column("writer", String(64), nullable=False),
    Column("first", BigInteger, nullable=False),
    Column("last", BigInteger, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("entries", BigInteger, nullable=False),
    Column("head", LargeBinary(32), nullable=False),
    UniqueConstraint("writer", "last"),
)

# Law 15: what was signed of the chain, byte for byte; the newest of a seal takes the place of the one before.
audit_checkpoints = Table(
    "audit_checkpoints",
    metadata,
    Column("seal", Serial, primary_key=True, autoincrement=False),
    Column("at", UtcDateTime, nullable=False),
    Column("statement", LargeBinary, nullable=False),
    Column("signature", LargeBinary(64), nullable=False),
)

# Law 15: behind which checkpoint the log begins, and the entry that records it; the owner alone writes here.
audit_cuts = Table(
    "audit_cuts",
    metadata,
    Column("seal", Serial, primary_key=True, autoincrement=False),
    Column("writer", String(64), nullable=False),
    Column("sequence", BigInteger, nullable=False),
)

# Law 15: who seals now, on the database's clock, and whether the log was found broken. One row.
audit_sealing = Table(
    "audit_sealing",
    metadata,
    Column("name", String(10), primary_key=True),
    Column("owner", String(150)),
    Column("until", UtcDateTime),
    Column("broken", String(1000)),
    Column("told", Boolean, nullable=False),
)

# How often vaults were asked: what a tenant's use of them costs. No keys of other tables, so that a count outlives what
# it was for; a key that was only tried belongs to no tenant.
vault_operations = Table(
    "vault_operations",
    metadata,
    Column("day", Date, primary_key=True),
    Column("tenant_id", String(36), primary_key=True),
    Column("policy_id", String(36), primary_key=True),
    Column("vault", String(500), primary_key=True),
    Column("operation", String(10), primary_key=True),
    Column("count", BigInteger, nullable=False),
)
