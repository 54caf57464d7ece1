"""Handle a requested move: a new site key now, and every blob under a new key of its own as soon as possible."""

from schemas.event import Event
from schemas.names import SITE_REENCRYPTOR
from schemas.requests import SiteMoveRequested
from twinlock.content import containers
from twinlock.content.containers import Container
from twinlock.store.unit import Reader
from workers.moving import Moving


class MoveSite(Moving):
    """Start a new key generation of a site."""

    consumer = SITE_REENCRYPTOR
    handles: type[Event] = SiteMoveRequested
    what = "files"

    async def _find(self, reader: Reader, event: SiteMoveRequested) -> Container:
        return await containers.find_site(reader, event.subject)
