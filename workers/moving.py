"""Handle a requested move: a new key of a container now, and everything in it under that as soon as possible."""

from dataclasses import dataclass
from typing import Any

from events.answers import answer
from events.handler import Received
from schemas.identifiers import RequestOutcome
from twinlock.content import containers, generations
from twinlock.content.containers import Container
from twinlock.custody.errors import KeyRefused
from twinlock.custody.port import Asker, Custodian, RequestRef, WrappedContainerKey, service
from twinlock.errors import NotFound, TwinlockError
from twinlock.store.unit import Reader, Store, Unit
from workers.mailbox_reencryptor.orders import order


@dataclass(frozen=True, slots=True)
class _Plan:
    received: Received
    seen: Container | None = None
    stored: WrappedContainerKey | None = None
    refused: TwinlockError | None = None


class Moving:
    """Start a new key generation of a container under the policy that it has; who derives says of which."""

    consumer: str
    what: str  # what lies in the container

    def __init__(self, store: Store, custodian: Custodian) -> None:
        self._store = store
        self._custodian = custodian

    async def prepare(self, event: Any, received: Received) -> _Plan:
        """Have the custodian make the key."""
        try:
            async with self._store.read() as reader:
                seen = await self._find(reader, event)
            asker = Asker(service("move"), received.cause, job=RequestRef(received.asked.source, received.asked.id))
            ref = seen.ref(seen.newest.number + 1)
            (made,) = await self._custodian.make_container_keys([ref], seen.policy_id, asker)
        except (NotFound, KeyRefused) as refused:
            return _Plan(received, refused=refused)
        return _Plan(received, seen, made)

    async def commit(self, unit: Unit, plan: _Plan) -> None:
        """Switch the container to the new key and order its re-encryption."""
        if plan.seen is None or plan.stored is None:
            refused = plan.refused or TwinlockError("it can't be moved")
            await answer(unit, plan.received.asked, RequestOutcome.REFUSED, {"hint": refused.hint}, refused.detail)
            return
        locked = await containers.lock_as_read(unit, plan.seen)
        left = await generations.renew(unit, locked, plan.stored)
        await order(unit, locked, locked.policy_id, left, self.consumer)
        said = f"{left} {self.what} to re-encrypt"
        await answer(unit, plan.received.asked, RequestOutcome.DONE, {self.what: left}, said)

    async def _find(self, reader: Reader, event: Any) -> Container:
        """Return the container that is meant, or raise `NotFound`."""
        raise NotImplementedError
