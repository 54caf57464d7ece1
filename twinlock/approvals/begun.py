"""What two approvers signed for and nobody can end any more: it goes on only while their signatures verify."""

from datetime import datetime

from twinlock.approvals.approvers import read_approvers
from twinlock.approvals.chain import NEEDED
from twinlock.approvals.errors import Refused
from twinlock.approvals.requests import examine
from twinlock.approvals.rows import Approval
from twinlock.store.unit import Reader


async def check_begun(reader: Reader, approval: Approval, began: datetime) -> None:
    """Check a request again that is carried out since a moment; raise `Refused` unless it was signed for by then.

    Who counted at that moment does: an approver who was removed since can't undo what had begun.
    """
    statement = await examine(reader, approval)
    approvers = await read_approvers(reader, approval.tenant_id, began)
    if not statement.requested <= began < statement.expires:
        raise Refused(f"request {approval.id} did not hold when it was begun", hint="see: twinlock audit list")
    if len(approvers.signers(statement, approval.signatures, began)) < NEEDED:
        raise Refused(
            f"request {approval.id} was not signed by two approvers who counted when it was begun",
            hint="somebody changed the database; compare it with a backup and with the audit log",
        )
