"""Who may do what in PostgreSQL: one role a login, each with its own tables (least privilege).

`twinlock init`, as the owner, grants exactly this (`granting.py`); on SQLite, which has no roles, it says who writes
what. Which rows of a table that several share are whose says `row_rules.py`. A role is named after the broker's login,
and after the database: roles belong to a whole cluster. What no role is given is the owner's alone: any change of a
table, `init`, `worker enroll` and `worker retire`, `tenant remove`, `restore check`, `audit prune`.
"""

from collections.abc import Iterable, Mapping

from schemas.names import (
    ALERT_EMITTER,
    AUDIT_SEALER,
    DEP_ASSIGNER,
    MAILBOX_REENCRYPTOR,
    OPERATOR,
    RECOVERY_HANDLER,
    SITE_REENCRYPTOR,
    TIK_CACHE_REFRESHER,
)
from twinlock.store.tables import metadata

Rights = Mapping[str, str]  # by table, as PostgreSQL writes them: INSERT, UPDATE (column, …), DELETE

# Wrapped policy keys, and content: read by those alone whose matrix says so. Everything else every role may read.
SEALED = ("policy_key_copies", "items", "files")

_AUDITS = {"audit_entries": "INSERT"}  # law 15: nobody updates or deletes
_TELLS = {"outbox": "INSERT, UPDATE (attempts, not_before, lease_owner, lease_until), DELETE"}
_HEARS = {"inbox": "INSERT, DELETE", "dead_letters": "INSERT", "deliveries": "DELETE"}
_IS_ASKED = {"requests": "INSERT, UPDATE (outcome, answer, finished_at)"}
_WORKS = {
    # Nobody makes a job another's, or one about another container.
    "jobs": "INSERT, UPDATE (policy_id, payload, cursor, total, done, not_before, trouble, lease_owner, lease_until, "
    "fencing, turn, correlation, progressed_at, target_at, overdue), DELETE",
    "turns": "INSERT, UPDATE (turn)",
    "wake_slots": "INSERT, UPDATE (event_id, since), DELETE",
}
_WORKER = {**_TELLS, **_HEARS, **_IS_ASKED, **_WORKS}
# A lock on a row needs the right to update one column of it, whichever. Nothing is decided by when it was made.
_LOCK = "UPDATE (created_at)"
_TENANT = {"tenants": _LOCK}
_POLICY = {"policies": _LOCK}

_SWITCHES = {  # onto another generation of a container's key, or another policy key
    "containers": "UPDATE (policy_id, newest_generation, version)",
    "container_keys": "INSERT, DELETE, UPDATE (policy_id, policy_key_generation, wrapped, item_count, encrypted_count)",
    "container_wraps": "INSERT, DELETE",
}
_UPLOADS = {"object_intents": "INSERT, DELETE", "superseded_objects": "INSERT, DELETE"}
_ASSIGNS_SITES = {
    "geos": "INSERT, UPDATE (policy_id, state, since, version), DELETE",
    "assignment_outcomes": "INSERT, DELETE",
}
_OBSERVES = {  # what a vault answered
    "verdicts": "INSERT, UPDATE, DELETE",
    "evidence": "INSERT, DELETE",
    "vault_operations": "INSERT, UPDATE (count)",
}
_APPROVAL_STEPS = {
    "approvals": "UPDATE (state, due, version)",
    "approval_steps": "INSERT, UPDATE (announced)",
    "approver_changes": "UPDATE (announced)",
    "revocations": "INSERT, UPDATE (announced)",
}

_ASSIGNER: Rights = {
    **_WORKER,
    **_TENANT,
    **_SWITCHES,
    **_ASSIGNS_SITES,
    "policies": "INSERT, UPDATE (newest_generation, version)",
    "root_keys": "INSERT, UPDATE (version)",
    "root_key_pins": "INSERT",
    "policy_keys": "INSERT, DELETE",
    "policy_key_copies": "SELECT (policy_id, generation), INSERT, DELETE",
    "availability_keys": "INSERT",
    "items": "SELECT (id, container_id, generation)",
    "files": "SELECT (id, container_id, generation)",
}
_MAILBOXES: Rights = {
    **_WORKER,
    **_POLICY,
    **_SWITCHES,
    **_UPLOADS,
    "object_intents": "INSERT, UPDATE (expires_at), DELETE",  # it sweeps those whose time is up, under a lock
    "items": "SELECT, UPDATE (generation, version, body, object_name, import_mac)",
    "files": "SELECT (id, container_id, generation)",
}
_SITES: Rights = {
    **_WORKER,
    **_TENANT,
    **_POLICY,
    **_SWITCHES,
    **_UPLOADS,
    **_ASSIGNS_SITES,
    "policy_keys": "DELETE",
    "policy_key_copies": "SELECT (policy_id, generation), DELETE",
    "items": "SELECT (id, container_id, generation)",
    "files": "SELECT, UPDATE (generation, version, size, wrapped_key, content_mac, object_name)",
}
_CUSTODIAN: Rights = {
    **_TELLS,
    **_AUDITS,
    **_TENANT,
    **_OBSERVES,
    **_APPROVAL_STEPS,  # it closes requests whose time is up, and tells of them
    "policies": "UPDATE (state, health, version)",
    # Compared, under a lock, before what was seen of it is kept; pins refer to this column, so nobody can change it.
    "root_keys": "UPDATE (slot)",
    "root_key_looks": "INSERT, UPDATE",
    "vault_operations": "INSERT, UPDATE (count), DELETE",  # it forgets what is a year old
    "custodians": "INSERT, UPDATE, DELETE",
    "taken_requests": "INSERT, DELETE",
    "policy_key_copies": "SELECT",
}
_RECOVERY: Rights = {
    **_WORKER,
    **_AUDITS,
    **_TENANT,
    **_OBSERVES,
    **_APPROVAL_STEPS,
    "approvals": "INSERT, UPDATE (state, due, version)",
    "policies": "UPDATE (state, health, newest_generation, version)",
    "root_keys": "UPDATE (uri, identity, version)",
    "root_key_pins": "INSERT, DELETE",
    "root_key_looks": "UPDATE (version)",
    "policy_keys": "INSERT",
    "policy_key_copies": "SELECT, INSERT, DELETE",
    "availability_keys": "INSERT, UPDATE (state)",
    "geos": "UPDATE (state, since, version), DELETE",
    "purges": "INSERT, UPDATE",
    "purged_generations": "INSERT",
    # A purge deletes content, and changes none.
    "containers": "UPDATE (version), DELETE",
    "container_keys": "UPDATE (item_count), DELETE",
    "container_wraps": "DELETE",
    "items": "SELECT, DELETE",
    "files": "SELECT, DELETE",
    **_UPLOADS,
}
_ALERTS: Rights = {
    **_TELLS,
    **_HEARS,
    "alerts": "INSERT, UPDATE, DELETE",
    "alert_signals": "INSERT, DELETE",
    "deliveries": "INSERT, UPDATE (attempts, not_before), DELETE",
}
_SEALER: Rights = {
    **_TELLS,
    "audit_seals": "INSERT",
    "audit_checkpoints": "INSERT, UPDATE (at, statement, signature)",
    "audit_sealing": "INSERT, UPDATE (owner, until, broken, told)",
}
_COMMANDS: Rights = {
    **_TELLS,
    **_AUDITS,
    **_UPLOADS,
    "tenants": "INSERT, UPDATE (created_at)",
    "containers": "INSERT, UPDATE (version), DELETE",
    "container_keys": "INSERT, UPDATE (item_count, encrypted_count), DELETE",
    "container_wraps": "DELETE",
    "items": "SELECT, INSERT, DELETE",
    "files": "SELECT, INSERT, UPDATE (generation, version, size, wrapped_key, content_mac, object_name), DELETE",
    "publishers": "INSERT, UPDATE (all_tenants, added_at), DELETE",
    "publisher_tenants": "INSERT, DELETE",
    "publisher_types": "INSERT, DELETE",
    "approvals": "INSERT, UPDATE (state, due, version)",
    "approval_signatures": "INSERT, DELETE",
    "approval_steps": "INSERT, UPDATE (announced)",
    "approver_changes": "INSERT, UPDATE (announced)",  # no DELETE: a chain that could go could begin anew
    "revocations": "INSERT, UPDATE (announced)",
    "policies": "UPDATE (state, version)",
    "policy_key_copies": "SELECT",
    "audit_sealing": "INSERT, UPDATE (broken, told)",
    "requests": "INSERT",
    "dead_letters": "DELETE",
    "deliveries": "INSERT",
}

ROLES: Mapping[str, Rights] = {
    OPERATOR: _COMMANDS,
    DEP_ASSIGNER: _ASSIGNER,
    MAILBOX_REENCRYPTOR: _MAILBOXES,
    SITE_REENCRYPTOR: _SITES,
    TIK_CACHE_REFRESHER: _CUSTODIAN,
    RECOVERY_HANDLER: _RECOVERY,
    ALERT_EMITTER: _ALERTS,
    AUDIT_SEALER: _SEALER,
}


def role(database: str, login: str) -> str:
    """Name the role of a login in a database."""
    return f"{database}_{login}"


def rights(login: str) -> Rights:
    """Return everything that a login may do, table by table."""
    return {table: ", ".join(_of_table(login, table)) for table in sorted(metadata.tables)}


def _of_table(login: str, table: str) -> Iterable[str]:
    if table not in SEALED:
        yield "SELECT"
    if table in ROLES[login]:
        yield ROLES[login][table]
