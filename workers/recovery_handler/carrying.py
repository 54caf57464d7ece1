"""What the recovery handler carries out: for each action one kind of job, whose id is that of the request."""

from typing import Any, Protocol, TypeVar

from twinlock.approvals.rows import Approval
from twinlock.custody.port import Asker
from twinlock.store.unit import Unit
from workers.jobs import Job

WorkT = TypeVar("WorkT")


class Carrying(Protocol[WorkT]):
    """Carry out one action, a step at a time; both halves check the request again, the second in its transaction."""

    async def taken_up(self, unit: Unit, approval: Approval) -> None:
        """Tell that the job of an approved request is there."""
        ...

    async def plan(self, job: Job, asker: Asker) -> WorkT | None:
        """Do the slow part, with no transaction open, or return None where nothing is left to be done."""
        ...

    async def apply(self, unit: Unit, job: Job, work: WorkT) -> None:
        """Do the short part, and go on with the job, put it off or finish it."""
        ...


AnyCarrying = Carrying[Any]


def job_id(action: str, request: str) -> str:
    """Name the job of a request: one request is one job, however often it is taken up."""
    return f"{action}:{request}"
