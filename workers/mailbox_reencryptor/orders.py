"""Order the re-encryption of a container; whoever gives it a new key does."""

from schemas.names import MAILBOX_REENCRYPTOR
from twinlock.content.containers import Container
from twinlock.store.unit import Unit
from workers import jobs, wakeups
from workers.jobs import NewJob

PURPOSE = "reencrypt"


def job_id(container_id: str) -> str:
    """Name the one job that a container's re-encryption is, whatever set it off."""
    return f"reencrypt:{container_id}"


async def order(unit: Unit, container: Container, policy_id: str, left: int, worker: str = MAILBOX_REENCRYPTOR) -> None:
    """Have a container re-encrypted to its newest key; a job that runs already gets the new target."""
    if not left:
        return
    await jobs.put(
        unit,
        NewJob(
            id=job_id(container.id),
            worker=worker,
            kind=PURPOSE,
            tenant_id=container.tenant_id,
            container_id=container.id,
            policy_id=policy_id,
            total=left,
        ),
    )
    await wakeups.wake(unit, worker)
