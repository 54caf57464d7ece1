"""Handle a requested recovery: everything is looked at live, and then two approvers are asked, or nobody is."""

from dataclasses import dataclass

from events.answers import answer
from events.handler import Received
from schemas.event import Event
from schemas.identifiers import RequestOutcome
from schemas.names import RECOVERY_HANDLER
from schemas.requests import RecoveryRequested
from twinlock.approvals.errors import Refused
from twinlock.approvals.requests import Wanted
from twinlock.approvals.settings import ApprovalSettings
from twinlock.approvals.statement import Action, NewKey
from twinlock.approvals.telling import alert_recovery
from twinlock.custody.lifecycle.naming import made_by
from twinlock.custody.policies import Policy, find_policy, load_policy
from twinlock.custody.port import Asker, Recovering, RequestRef, service
from twinlock.errors import NotFound, TwinlockError
from twinlock.store.unit import StaleRead, Store, Unit
from workers.recovery_handler.asking import ask, note_refused
from workers.recovery_handler.standing import BadKeys, Standing

PURPOSE = "recover"
_DEADLINE = 60.0


@dataclass(frozen=True, slots=True)
class _Plan:
    wanted: RecoveryRequested
    received: Received
    policy: Policy | None = None
    keys: tuple[NewKey, ...] = ()
    refused: TwinlockError | None = None


class RequestRecovery:
    """Make the request that two approvers sign; the answer holds its id, or every reason against it."""

    consumer = RECOVERY_HANDLER
    handles: type[Event] = RecoveryRequested

    def __init__(self, store: Store, recovering: Recovering, settings: ApprovalSettings) -> None:
        self._store = store
        self._recovering = recovering
        self._standing = Standing(store, recovering)
        self._settings = settings

    async def prepare(self, event: RecoveryRequested, received: Received) -> _Plan:
        """Have both old root keys asked, and both new ones probed."""
        policy = None
        ref = RequestRef(received.asked.source, received.asked.id)
        asker = Asker(service(PURPOSE), received.cause, _DEADLINE, job=ref)
        try:
            async with self._store.read() as reader:
                policy = await find_policy(reader, event.policy)
            keys = await self._standing.check(policy, event.keys, event.although_revoked, asker)
            async with self._store.read() as reader:
                policy = await load_policy(reader, policy.id) or policy  # what the keys said may have changed it
        except (NotFound, Refused) as refused:
            return _Plan(event, received, policy, refused=refused)
        return _Plan(event, received, policy, keys)

    async def commit(self, unit: Unit, plan: _Plan) -> None:
        """Make the request, or say what stands against it."""
        if plan.policy is None or plan.refused is not None:
            await self._refuse(unit, plan, plan.refused or TwinlockError("it can't be recovered"))
            return
        now = await load_policy(unit, plan.policy.id)
        if now is None or (now.version, now.state) != (plan.policy.version, plan.policy.state):
            raise StaleRead
        wanted = self._wanted(plan, now)
        try:
            approval = await ask(unit, now, wanted, self._settings, self._recovering.audit)
        except Refused as refused:
            await self._refuse(unit, plan, refused)
            return
        said = f"a recovery of policy {now} onto new root keys was requested: {approval.id}"
        if approval.id == wanted.id:  # and not one that waits already
            alert_recovery(unit, now.tenant, now.id, said)
        await answer(unit, plan.received.asked, RequestOutcome.DONE, {"id": approval.id}, said)

    def _wanted(self, plan: _Plan, policy: Policy) -> Wanted:
        asked = plan.received.asked
        return Wanted(
            Action.RECOVER,
            str(policy),
            plan.wanted.reason,
            policy,
            plan.keys,
            although_revoked=plan.wanted.although_revoked,
            id=made_by(asked.source, asked.id),
        )

    async def _refuse(self, unit: Unit, plan: _Plan, refused: TwinlockError) -> None:
        await note_refused(unit, self._recovering.audit, Action.RECOVER, plan.policy, refused.detail)
        failed = [check.document() for check in refused.failed] if isinstance(refused, BadKeys) else []
        said = {"hint": refused.hint, "failed": failed}
        await answer(unit, plan.received.asked, RequestOutcome.REFUSED, said, refused.detail)
