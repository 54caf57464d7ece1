"""Handle a requested move: a new mailbox key now, and every item under it as soon as possible."""

from schemas.event import Event
from schemas.names import MAILBOX_REENCRYPTOR
from schemas.requests import MoveRequested
from twinlock.content import containers
from twinlock.content.containers import Container
from twinlock.store.unit import Reader
from workers.moving import Moving


class Move(Moving):
    """Start a new key generation of a mailbox."""

    consumer = MAILBOX_REENCRYPTOR
    handles: type[Event] = MoveRequested
    what = "items"

    async def _find(self, reader: Reader, event: MoveRequested) -> Container:
        return await containers.find_mailbox(reader, event.mailbox)
