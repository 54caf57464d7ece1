"""Exports in the service's name: engineering is told of each (law 10), by the custodian where it is another process."""

from collections.abc import Awaitable, Callable

from cli.session import Session
from schemas.names import OPERATOR
from twinlock.content.containers import Container
from twinlock.custody.callers.purposes import Operation, read_as_service, reads_as_service
from twinlock.custody.custodian import LocalCustodian
from twinlock.custody.port import Asker
from twinlock.store.unit import Reader


async def tell(session: Session, asker: Asker, find: Callable[[Reader], Awaitable[Container]]) -> None:
    """Tell of a read in the service's name, before it begins, where the custodian is in this process."""
    as_service = reads_as_service(OPERATOR, asker.initiator, Operation.OPEN_CONTAINER_KEY)
    if not as_service or not isinstance(session.parts.custodian, LocalCustodian):
        return
    async with session.parts.store.begin(session.cause) as unit:
        container = await find(unit)
        unit.emit(read_as_service(OPERATOR, asker.initiator, container.id))
