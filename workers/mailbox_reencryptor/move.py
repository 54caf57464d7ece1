"""Handle a requested move: a new mailbox key now, and every item under it as soon as possible."""

from dataclasses import dataclass

from events.answers import answer
from events.handler import Received
from schemas.event import Event
from schemas.identifiers import RequestOutcome
from schemas.names import MAILBOX_REENCRYPTOR
from schemas.requests import MoveRequested
from twinlock.content import containers, generations
from twinlock.content.containers import Container
from twinlock.custody.errors import KeyRefused
from twinlock.custody.port import Asker, Custodian, RequestRef, WrappedContainerKey, service
from twinlock.errors import NotFound, TwinlockError
from twinlock.store.unit import Store, Unit
from workers.mailbox_reencryptor.orders import order


@dataclass(frozen=True, slots=True)
class _Plan:
    received: Received
    seen: Container | None = None
    stored: WrappedContainerKey | None = None
    refused: TwinlockError | None = None


class Move:
    """Start a new key generation of a mailbox under the policy that it has."""

    consumer = MAILBOX_REENCRYPTOR
    handles: type[Event] = MoveRequested

    def __init__(self, store: Store, custodian: Custodian) -> None:
        self._store = store
        self._custodian = custodian

    async def prepare(self, event: MoveRequested, received: Received) -> _Plan:
        """Have the custodian make the key."""
        try:
            async with self._store.read() as reader:
                seen = await containers.find_mailbox(reader, event.mailbox)
            asker = Asker(service("move"), received.cause, job=RequestRef(received.asked.source, received.asked.id))
            ref = seen.ref(seen.newest.number + 1)
            (made,) = await self._custodian.make_container_keys([ref], seen.policy_id, asker)
        except (NotFound, KeyRefused) as refused:
            return _Plan(received, refused=refused)
        return _Plan(received, seen, made)

    async def commit(self, unit: Unit, plan: _Plan) -> None:
        """Switch the mailbox to the new key and order its re-encryption."""
        if plan.seen is None or plan.stored is None:
            refused = plan.refused or TwinlockError("the mailbox can't be moved")
            await answer(unit, plan.received.asked, RequestOutcome.REFUSED, {"hint": refused.hint}, refused.detail)
            return
        locked = await containers.lock_as_read(unit, plan.seen)
        left = await generations.switch(unit, locked, plan.stored, ())
        await order(unit, locked, locked.policy_id, left)
        await answer(unit, plan.received.asked, RequestOutcome.DONE, {"items": left}, f"{left} items to re-encrypt")
