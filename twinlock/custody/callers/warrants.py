"""Check in the database what a call is for: live work of the caller that concerns what is asked (law 10).

A request's body is not kept, so that of a request only its type and life are known, and what it makes by its derived
name. None of those calls opens a key that is there already, or takes a container from its policy: these name a job.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.engine import Row

from schemas.identifiers import PROVIDER, Workload
from schemas.names import MAILBOX_REENCRYPTOR, SITE_REENCRYPTOR
from twinlock.custody.callers.purposes import Needs, Permit
from twinlock.custody.errors import NotPermitted
from twinlock.custody.lifecycle.naming import made_by
from twinlock.custody.policies import Policy, load_policy
from twinlock.custody.port import Asker, ContainerRef, JobRef, PolicyKeyOrder, RequestRef
from twinlock.custody.remote.messages import (
    Asking,
    MakeContainerKeys,
    MakePolicyKey,
    OpenContainerKey,
    RewrapContainers,
)
from twinlock.store.tables.content import container_keys, containers
from twinlock.store.tables.custody import root_keys
from twinlock.store.tables.work import geos, jobs, requests
from twinlock.store.unit import Reader

# Who opens keys opens those of its own workload, whatever job it names: a mailbox's would open it large items as well.
_WORKLOADS = {MAILBOX_REENCRYPTOR: Workload.MAILBOX, SITE_REENCRYPTOR: Workload.SITE}
_OVER = "work that has ended, or has another target by now, opens nothing: it is begun again by itself"


async def check(reader: Reader, caller: str, permit: Permit, asker: Asker, asking: Asking) -> None:
    """Raise `NotPermitted` unless the work that the call names is live, the caller's, and concerns what is asked."""
    if permit.needs is Needs.JOB:
        await _check_job(reader, caller, permit.of, asker, asking)
    elif permit.needs is Needs.REQUEST:
        await _check_request(reader, permit.of, asker, asking)
    elif isinstance(asking, MakeContainerKeys):
        await _check_new_container(reader, asking)


async def _check_job(reader: Reader, caller: str, kind: str, asker: Asker, asking: Asking) -> None:
    if not isinstance(asker.job, JobRef):
        raise NotPermitted(f"{caller} names no job", policy="", hint="a service call says what it is for")
    job = await reader.row(select(jobs).where(jobs.c.id == asker.job.id))
    if job is None or job.worker != caller or job.kind != kind:
        raise NotPermitted(f"{caller} has no live job {asker.job.id} of kind {kind}", policy="", hint=_OVER)
    refs, target = _touched(asking)
    if job.policy_id != target and target is not None:
        raise NotPermitted(f"job {job.id} is not about policy {target}", policy=target, hint=_OVER)
    found = await _containers(reader, refs)
    opens = isinstance(asking, OpenContainerKey)
    for ref in refs:
        container = found.get(ref.container_id)
        is_callers = container is None or container.workload == _WORKLOADS.get(caller, container.workload)
        if not is_callers or not await _concerns(reader, job, ref, container, opens=opens):
            raise NotPermitted(f"job {job.id} is not about container {ref.container_id}", policy=target or "")


def _touched(asking: Asking) -> tuple[Sequence[ContainerRef], str | None]:
    """Return which containers a call is about, and the policy that they are to be under."""
    if isinstance(asking, OpenContainerKey):
        return (asking.ref,), None
    if isinstance(asking, MakeContainerKeys):
        return asking.refs, asking.policy_id
    if isinstance(asking, RewrapContainers):
        return asking.refs, asking.target_policy_id
    raise NotPermitted("no job is about that", policy="")


async def _containers(reader: Reader, refs: Sequence[ContainerRef]) -> Mapping[str, Row[Any]]:
    ids = {ref.container_id for ref in refs}
    return {row.id: row for row in await reader.rows(select(containers).where(containers.c.id.in_(ids)))}


async def _concerns(
    reader: Reader, job: Row[Any], ref: ContainerRef, container: Row[Any] | None, *, opens: bool
) -> bool:
    """Tell whether a job is about a container; what opens a key names a job about that very container."""
    if container is None or container.tenant_id != ref.tenant_id:
        return False
    if job.container_id is not None or opens:
        return bool(job.container_id == container.id)
    if job.kind == "roll":
        return await _is_under(reader, container.id, job.policy_id)
    if "geo" in job.payload:
        return bool((container.tenant_id, container.geo) == (job.tenant_id, job.payload["geo"]))
    if container.workload != Workload.MAILBOX:
        return False
    named: Collection[str] | None = job.payload.get("mailboxes")
    if named is not None and container.name not in named:
        return False
    return bool(job.tenant_id == container.tenant_id) or (named is not None and await _reverts(reader, job))


async def _is_under(reader: Reader, container_id: str, policy_id: str | None) -> bool:
    key = container_keys.c
    query = select(key.generation).where(key.container_id == container_id, key.policy_id == policy_id)
    return await reader.row(query) is not None


async def _reverts(reader: Reader, job: Row[Any]) -> bool:
    """Tell whether a job puts mailboxes that it names back under the provider's keys, whosever they are."""
    policy = await load_policy(reader, job.policy_id or "")
    return policy is not None and policy.is_service and policy.tenant_id == job.tenant_id


async def _check_request(reader: Reader, kind: str, asker: Asker, asking: Asking) -> None:
    ref = asker.job
    if not isinstance(ref, RequestRef):
        raise NotPermitted("the call names no request", policy="", hint="a service call says what it is for")
    row = requests.c
    request = await reader.row(select(requests).where(row.source == ref.source, row.id == ref.id))
    live = request is not None and request.accepted and request.outcome is None
    if request is None or not live or request.type != kind:
        raise NotPermitted(f"there is no accepted, unanswered request {ref.id} of type {kind}", policy="", hint=_OVER)
    if request.correlation != asker.cause.correlation:
        raise NotPermitted(f"request {ref.id} has another correlation", policy="")
    if isinstance(asking, MakePolicyKey) and not await _may_order(reader, asking.order, ref):
        raise NotPermitted(f"request {ref.id} makes no such policy key", policy=asking.order.policy_id, hint=_OVER)
    if isinstance(asking, MakeContainerKeys):
        await _check_own_policy(reader, asking)


async def _may_order(reader: Reader, order: PolicyKeyOrder, ref: RequestRef) -> bool:
    """Allow the first key of the very policy that the request makes, or the next of one that is there, as it is."""
    policy = await load_policy(reader, order.policy_id)
    if policy is None:
        return order.generation == 1 and order.policy_id == made_by(ref.source, ref.id)
    same = (policy.tenant_id, policy.mode, policy.newest_generation + 1) == (
        order.tenant_id,
        order.mode,
        order.generation,
    )
    return same and await _uris(reader, policy) == order.root_uris


async def _uris(reader: Reader, policy: Policy) -> tuple[str, ...]:
    key = root_keys.c
    rows = await reader.rows(select(key.uri).where(key.policy_id == policy.id).order_by(key.slot))
    return tuple(row.uri for row in rows)


async def _check_own_policy(reader: Reader, asking: MakeContainerKeys) -> None:
    """Let a move make a key under the policy that the container has, and under no other."""
    found = await _containers(reader, asking.refs)
    for ref in asking.refs:
        container = found.get(ref.container_id)
        if container is None or (container.tenant_id, container.policy_id) != (ref.tenant_id, asking.policy_id):
            detail = f"the container is not under policy {asking.policy_id}"
            raise NotPermitted(detail, policy=asking.policy_id, hint=_OVER)


async def _check_new_container(reader: Reader, asking: MakeContainerKeys) -> None:
    """Let a command make the first keys of new containers, under the provider's policy or a geo's of the tenant."""
    policy = await load_policy(reader, asking.policy_id)
    known = await _containers(reader, asking.refs)
    first = all(ref.generation == 1 for ref in asking.refs)
    if known or not first or policy is None or not await _may_begin(reader, asking.refs, policy):
        raise NotPermitted("a new container begins under the service policy, or its geo's", policy=asking.policy_id)


async def _may_begin(reader: Reader, refs: Sequence[ContainerRef], policy: Policy) -> bool:
    if policy.tenant == PROVIDER:
        return True
    row = geos.c
    owners = {found.tenant_id for found in await reader.rows(select(row.tenant_id).where(row.policy_id == policy.id))}
    return {ref.tenant_id for ref in refs} <= owners
