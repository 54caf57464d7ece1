"""Write down what a purge has destroyed and what that proves, from the rows that it leaves."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

from sqlalchemy import exists, func, select, tuple_

from twinlock.approvals.installation import read_installation
from twinlock.approvals.rows import Approval
from twinlock.approvals.statement import Statement, parse
from twinlock.custody.audit.chain import moment
from twinlock.custody.audit.sealing import read_state
from twinlock.custody.policies import Policy
from twinlock.custody.rows import read_policy
from twinlock.keys.signing import SigningKey
from twinlock.purging.certificate import issue
from twinlock.purging.rows import Purge, Stage
from twinlock.store.tables.approvals import approver_changes
from twinlock.store.tables.content import container_wraps
from twinlock.store.tables.custody import audit_entries
from twinlock.store.tables.purges import purged_generations
from twinlock.store.unit import Reader

DESTROYED = "purge-destroyed"  # the entry of the audit log that a certificate names as its position
_PAGE = 1000
_row = purged_generations.c

PROVES = (
    "content under container key generations that only this policy ever wrapped is unreadable, in this installation "
    "and in every backup of it, as long as neither root key answers again: the availability keys are destroyed, and "
    "each copy of a policy key that a backup holds is wrapped by one of those, or by a root key",
    "earlier key generations of the containers that `earlier` counts were wrapped by the policies named there, too: "
    "what was backed up before `backups_before` is as readable as those policies are",
    "what wrapped containers before `earlier_kept_since` may lack in `earlier`, as an older release kept no record: "
    "those of that time have to be taken to have been under another policy, and be it the provider's own",
)
PENDING = (
    "not yet: the provider's vault still keeps an availability key that is to be destroyed, until it reports the final "
    "destruction; then the certificate is issued again"
)


@dataclass(frozen=True, slots=True)
class Issued:
    """Hold a certificate, and whether everything in it is final."""

    text: bytes
    final: bool


async def certify(
    reader: Reader, approval: Approval, purge: Purge, keys: Sequence[dict[str, Any]], at: datetime, key: SigningKey
) -> Issued:
    """Return the certificate of a purge; `keys` are its availability keys as they stand now."""
    policy = await read_policy(reader, purge.policy_id)
    final = all(each["state"] == "destroyed" for each in keys)
    statement = parse(approval.statement)
    body = {
        "id": purge.id,
        "state": (Stage.DONE if final else Stage.PENDING).value,
        "installation": await read_installation(reader),
        "tenant": {"id": approval.tenant_id, "name": approval.tenant},
        "policy": _policy(policy),
        "reason": statement.reason,
        "contact": "" if statement.purge is None else statement.purge.contact,
        "requested_at": moment(approval.requested_at),
        "begun_at": None if purge.begun_at is None else moment(purge.begun_at),
        "issued_at": moment(at),
        "approval": await _approval(reader, approval, statement),
        "verdicts": purge.verdicts,
        "destroyed": {
            "policy_keys": purge.keys["policy_keys"],
            "container_keys": await _generations(reader, purge),
            "containers": {"count": purge.containers, "sha256": await _containers(reader, purge)},
            "items": purge.items,
            "objects": purge.objects,
            "availability_keys": list(keys),
        },
        "earlier": await _earlier(reader, purge),
        "earlier_kept_since": await _kept_since(reader),
        "proves": [*PROVES] if final else [PENDING, *PROVES],
        "audit": await _position(reader, purge),
    }
    return Issued(issue(key, body), final)


def _policy(policy: Policy) -> dict[str, Any]:
    return {
        "id": policy.id,
        "name": policy.name,
        "workload": policy.workload.value,
        "geo": policy.geo,
        "mode": policy.mode.value,
    }


async def _approval(reader: Reader, approval: Approval, statement: Statement) -> dict[str, Any]:
    change, signed = approver_changes.c, []
    for each in approval.signed:
        print_ = each.signature.fingerprint
        query = select(change.public_key).where(change.tenant_id == approval.tenant_id, change.fingerprint == print_)
        public = await reader.scalar(query.limit(1))
        signed.append(
            {
                "name": each.name,
                "at": moment(each.at),
                "public_key": public.hex(),
                "signature": each.signature.signature.hex(),
            }
        )
    return {"statement": statement.encode().decode("ascii"), "signatures": signed}


async def _generations(reader: Reader, purge: Purge) -> dict[str, Any]:
    """Hash a line for each generation: container, generation, that of the policy key, commitment."""
    digest, count, last = sha256(), 0, ("", 0)
    while True:
        place = tuple_(_row.container_id, _row.generation)
        query = select(purged_generations).where(_row.purge_id == purge.id, place > last)
        rows = await reader.rows(query.order_by(_row.container_id, _row.generation).limit(_PAGE))
        for row in rows:
            line = f"{row.container_id}/{row.generation} {row.policy_key_generation} {row.commitment.hex()}\n"
            digest.update(line.encode())
        count += len(rows)
        if len(rows) < _PAGE:
            return {"count": count, "sha256": digest.hexdigest()}
        last = (rows[-1].container_id, rows[-1].generation)


async def _containers(reader: Reader, purge: Purge) -> str:
    """Hash a line for each container: its id."""
    digest, last = sha256(), ""
    while True:
        ids = select(_row.container_id).where(_row.purge_id == purge.id, _row.container_id > last).distinct()
        rows = await reader.rows(ids.order_by(_row.container_id).limit(_PAGE))
        for row in rows:
            digest.update(f"{row.container_id}\n".encode())
        if len(rows) < _PAGE:
            return digest.hexdigest()
        last = rows[-1].container_id


async def _earlier(reader: Reader, purge: Purge) -> list[dict[str, Any]]:
    """Name every other policy that once wrapped keys of these containers, and up to when."""
    wrap = container_wraps.c
    mine = exists().where(_row.purge_id == purge.id, _row.container_id == wrap.container_id)
    other = (wrap.policy_id != purge.policy_id, mine)
    groups = (
        select(wrap.policy_id, func.count().label("containers"), func.max(wrap.until).label("until"))
        .where(*other)
        .group_by(wrap.policy_id)
        .order_by(wrap.policy_id)
    )
    found = []
    for row in await reader.rows(groups):
        policy = await read_policy(reader, row.policy_id)
        found.append(
            {
                "policy": policy.id,
                "name": str(policy),
                "state": policy.state.value,
                "containers": row.containers,
                "generations": await _wrapped_once(reader, purge, row.policy_id),
                "backups_before": moment(row.until),
            }
        )
    return found


async def _kept_since(reader: Reader) -> str | None:
    """Return since when it is surely kept what wrapped containers before: the oldest that is known of any."""
    found: datetime | None = await reader.scalar(select(func.min(container_wraps.c.until)))
    return None if found is None else moment(found)


async def _wrapped_once(reader: Reader, purge: Purge, policy_id: str) -> dict[str, Any]:
    """Hash a line for each container that a policy once wrapped: its id, the newest of those generations, its end."""
    wrap, digest, count, last = container_wraps.c, sha256(), 0, ""
    mine = exists().where(_row.purge_id == purge.id, _row.container_id == wrap.container_id)
    while True:
        query = select(container_wraps).where(wrap.policy_id == policy_id, wrap.container_id > last, mine)
        rows = await reader.rows(query.order_by(wrap.container_id).limit(_PAGE))
        for row in rows:
            digest.update(f"{row.container_id}/{row.generation} {moment(row.until)}\n".encode())
            count += row.generation
        if len(rows) < _PAGE:
            return {"up_to": count, "sha256": digest.hexdigest()}
        last = rows[-1].container_id


async def _position(reader: Reader, purge: Purge) -> dict[str, Any]:
    """Return where the audit log is: the entry of what was destroyed, and the last seal by now."""
    entry = audit_entries.c
    query = select(audit_entries).where(entry.kind == DESTROYED, entry.policy_id == purge.policy_id)
    row = await reader.row(query.order_by(entry.at.desc(), entry.sequence.desc()).limit(1))
    state = await read_state(reader)
    sealed = {"seal": state.number, "entries": state.entries, "head": state.head.hex()}
    if row is None:
        return sealed
    return {**sealed, "writer": row.writer, "sequence": row.sequence, "mac": row.mac.hex()}
