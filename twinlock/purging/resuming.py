"""A purge that had begun when the database was brought back to an older state: it goes on, and ends as it would have.

For a certificate the request and both signatures have to be there; what is left of the content is the worker's.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from schemas.names import RECOVERY_HANDLER
from twinlock.approvals.chain import NEEDED
from twinlock.approvals.rows import find_approval
from twinlock.approvals.statement import Action
from twinlock.custody.rows import read_policy
from twinlock.errors import NotFound
from twinlock.purging.beginning import destroy_copies, gather
from twinlock.purging.rows import Stage, find_purge, move_on
from twinlock.store.once import insert_once
from twinlock.store.tables.work import jobs, turns
from twinlock.store.unit import Reader, Unit

SWEEP = "sweep-purged"  # the kind of a job that destroys content alone


async def can_resume(reader: Reader, request_id: str) -> bool:
    """Say whether all that two approvers signed of a purge is there."""
    try:
        await find_purge(reader, request_id)
        return len((await find_approval(reader, request_id)).signed) >= NEEDED
    except NotFound:
        return False


async def resume(unit: Unit, request_id: str, begun_at: datetime, uris: Sequence[str]) -> None:
    """Destroy the wrapped copies once more, and have the worker go on; `uris` are the availability keys of then."""
    approval, purge = await find_approval(unit, request_id), await find_purge(unit, request_id)
    keys = await gather(unit, await read_policy(unit, purge.policy_id), uris)
    await destroy_copies(unit, purge.policy_id)
    await move_on(unit, purge, Stage.CONTENT, keys=keys, begun_at=begun_at)
    payload = {"request": approval.id}
    await _put_job(unit, Action.PURGE.value, approval.id, approval.tenant_id, purge.policy_id, payload)


async def sweep(unit: Unit, tenant_id: str, policy_id: str, wait: timedelta) -> None:
    """Have a worker destroy, after a while, what is there of the content of a purged policy of whose purge nothing is.

    What was under it at the backup may have been under another policy at the purge: a newer backup would need it.
    """
    await _put_job(unit, SWEEP, policy_id, tenant_id, policy_id, {}, wait)


async def _put_job(
    unit: Unit,
    kind: str,
    about: str,
    tenant_id: str,
    policy_id: str,
    payload: Mapping[str, str],
    wait: timedelta = timedelta(),
) -> None:
    """Write a job of the recovery handler, unless the backup has it: it waits for a time that has passed."""
    now = unit.clock.now()
    row = {
        "id": f"{kind}:{about}",
        "worker": RECOVERY_HANDLER,
        "kind": kind,
        "tenant_id": tenant_id,
        "policy_id": policy_id,
        "payload": payload,
        "total": 0,
        "done": 0,
        "not_before": now + wait,
        "trouble": "",
        "fencing": 1,
        "turn": 0,
        "correlation": unit.cause.correlation,
        "created_at": now,
        "target_at": now,
    }
    await unit.execute(insert_once(unit, jobs).values(**row))
    await unit.execute(insert_once(unit, turns).values(worker=RECOVERY_HANDLER, tenant_id=tenant_id, turn=0))
