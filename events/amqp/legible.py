"""Bytes from the broker, with properties that the library can read.

A publisher may write properties that are no text, or times that are none. The library ends the connection over them,
or loses the delivery without a word, and the message comes again: one such message would halt whoever consumes it.
Here it comes with no properties at all, as one for which nobody vouches.
"""

from asyncio import StreamReader

from pamqp.constants import FRAME_HEADER
from pamqp.header import ContentHeader

_FLAGS = slice(12, 14)  # of a content header, after class, weight and size: which properties follow
_MODES = (None, 1, 2)


class LegibleReader(StreamReader):
    """Read as another reader does: of each frame its kind, then channel and length, then its content."""

    def __init__(self, inner: StreamReader) -> None:
        super().__init__()
        self._inner = inner
        self._kind = 0
        self._part = 0

    def at_eof(self) -> bool:
        """Tell whether nothing more comes."""
        return self._inner.at_eof()

    async def read(self, n: int = -1) -> bytes:
        """Read what is there: the farewell of a broker that speaks another protocol."""
        return await self._inner.read(n)

    async def readexactly(self, n: int) -> bytes:
        """Read the next part of a frame."""
        found = await self._inner.readexactly(n)
        part, self._part = self._part, (self._part + 1) % 3
        if part == 0:
            self._kind = found[0]
        return legible(found) if part == 2 and self._kind == FRAME_HEADER else found


def legible(header: bytes) -> bytes:
    """Return a content header, without its properties where these can't be read."""
    if _can_be_read(header):
        return header
    cleared = bytearray(header)
    cleared[_FLAGS] = bytes(2)
    return bytes(cleared)


def _can_be_read(header: bytes) -> bool:
    read = ContentHeader()
    try:
        read.unmarshal(header)
    except Exception:  # noqa: BLE001  # whatever it is, it would arise again in the library's reader
        return False
    return read.properties.delivery_mode in _MODES
