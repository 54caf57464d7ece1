"""Carry out an approved recovery: everything is wrapped and verified first, then one transaction switches it all."""

from dataclasses import dataclass
from typing import Any

from schemas.identifiers import ApprovalState
from twinlock.approvals.errors import BrokenApprovers, Refused
from twinlock.approvals.requests import Checked, check
from twinlock.approvals.rows import Approval, find_approval
from twinlock.approvals.statement import Statement
from twinlock.approvals.telling import alert_recovery
from twinlock.custody.errors import KeyRefused
from twinlock.custody.policies import Policy
from twinlock.custody.port import Asker, NewRoot, Recovered, Recovering, RecoveryOrder
from twinlock.custody.rows import read_policy
from twinlock.store.unit import StaleRead, Store, Unit
from workers import jobs
from workers.jobs import Job
from workers.recovery_handler.asking import settle
from workers.recovery_handler.standing import Standing
from workers.recovery_handler.switch import switch


@dataclass(frozen=True, slots=True)
class Work:
    """Hold a policy as it was read, and its keys under the new root keys; or why it will never come to that."""

    policy: Policy | None = None
    recovered: Recovered | None = None
    over: str = ""


class Recover:
    """Bring a policy onto the root keys that two approvers have signed for."""

    def __init__(self, store: Store, recovering: Recovering) -> None:
        self._store = store
        self._recovering = recovering
        self._standing = Standing(store, recovering)

    async def taken_up(self, unit: Unit, approval: Approval) -> None:
        """Tell that two approvers have signed."""
        signers = " and ".join(each.name for each in approval.signed)
        said = f"{signers} approved a recovery of policy {approval.subject}"
        alert_recovery(unit, approval.tenant, approval.policy_id, said)

    async def plan(self, job: Job, asker: Asker) -> Work:
        """Look at everything afresh and have the keys wrapped; what stands against it for now is trouble."""
        async with self._store.begin(asker.cause) as unit:
            try:
                checked = await _checked(unit, job)
            except Refused as refused:
                return Work(over=refused.detail)
            policy = await read_policy(unit, job.policy_id or "")
        statement = checked.statement
        await self._check(policy, statement, asker)
        async with self._store.read() as reader:
            policy = await read_policy(reader, policy.id)  # what the keys said may have changed it
        recovered = await self._recovering.recover(order_of(statement, policy), asker)
        return Work(policy, recovered)

    async def _check(self, policy: Policy, statement: Statement, asker: Asker) -> None:
        try:
            await self._standing.check(policy, _uris(statement), statement.although_revoked, asker)
        except Refused as refused:
            raise KeyRefused(refused.detail, policy=policy.id, hint=refused.hint) from None

    async def apply(self, unit: Unit, job: Job, work: Work) -> None:
        """Check the request again, and switch the policy to its new keys; a request that is over ends its job."""
        try:
            checked = await _checked(unit, job)
        except Refused as refused:
            await self._give_up(unit, job, refused.detail)
            return
        if work.policy is None or work.recovered is None:
            raise StaleRead  # it was over a moment ago
        policy = await read_policy(unit, work.policy.id, lock=True)
        if (policy.version, policy.state) != (work.policy.version, work.policy.state):
            raise StaleRead
        await switch(unit, policy, work.recovered, checked.approval.id)
        await jobs.finish(unit, job)
        keys = [key.uri for key in checked.statement.keys]
        said = f"policy {policy} is on new root keys: {', '.join(keys)}"
        alert_recovery(unit, policy.tenant, policy.id, said)
        signers = [each.name for each in checked.approval.signed]
        await settle(unit, checked.approval, ApprovalState.DONE, self._recovering.audit, approvers=signers, keys=keys)

    async def _give_up(self, unit: Unit, job: Job, why: str) -> None:
        approval = await find_approval(unit, job.payload["request"])
        await jobs.finish(unit, job)
        if approval.state is ApprovalState.APPROVED:
            late = unit.clock.now() >= approval.expires_at
            state = ApprovalState.EXPIRED if late else ApprovalState.CANCELLED
            await settle(unit, approval, state, self._recovering.audit, why=why)


async def _checked(unit: Unit, job: Job) -> Checked:
    try:
        return await check(unit, job.payload["request"])
    except BrokenApprovers as broken:
        # Somebody changed rows by hand: what was signed stays void until they are as they were.
        raise KeyRefused(broken.detail, policy=job.policy_id or "", hint=broken.hint) from None


def order_of(statement: Statement, policy: Policy) -> RecoveryOrder:
    """Return what is to be done, from what was signed."""
    first, second = (NewRoot(key.uri, key.version, key.fingerprint) for key in _by_slot(statement))
    return RecoveryOrder(statement.request, policy.id, (first, second))


def _uris(statement: Statement) -> tuple[str, str]:
    first, second = (key.uri for key in _by_slot(statement))
    return first, second


def _by_slot(statement: Statement) -> list[Any]:
    return sorted(statement.keys, key=lambda key: key.slot)
