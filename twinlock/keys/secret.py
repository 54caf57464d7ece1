"""The one object that holds a key."""

import hmac
import os

from twinlock.keys import kdf
from twinlock.keys.errors import KeyWipedError
from twinlock.keys.guarded import Buffer, Guarded

KEY_BYTES = 32


class SecretKey(Guarded):
    """Hold 32 secret bytes in a buffer of its own, which `wipe` zeroes.

    There is no wipe on garbage collection: it would zero a buffer that `expose` has lent out, and a cipher made from
    zeros fails silently.
    """

    __slots__ = ("_buffer", "_wiped")

    def __init__(self, raw: Buffer) -> None:
        size = memoryview(raw).nbytes
        if size != KEY_BYTES:
            raise ValueError(f"a key is {KEY_BYTES} bytes long, not {size}")
        self._buffer = bytearray(raw)
        self._wiped = False

    @classmethod
    def generate(cls) -> "SecretKey":
        """Make a key from the system's random source."""
        return cls(os.urandom(KEY_BYTES))

    @classmethod
    def take(cls, buffer: bytearray) -> "SecretKey":
        """Make a key from a buffer and zero the buffer."""
        key = cls(buffer)
        buffer[:] = bytes(len(buffer))
        return key

    def expose(self) -> bytearray:
        """Lend the buffer itself, not a copy; KeyWipedError once it is wiped.

        Who makes something from the buffer calls this once more afterwards: another thread may have wiped meanwhile.
        """
        if self._wiped:
            raise KeyWipedError
        return self._buffer

    def wipe(self) -> None:
        """Zero the buffer; repeating it is no error."""
        self._wiped = True  # first: whoever reads zeros must find it set
        self._buffer[:] = bytes(KEY_BYTES)

    def commitment(self) -> bytes:
        """Return the 32 public bytes that tell this key from every other."""
        return kdf.commitment(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SecretKey):
            return NotImplemented
        return hmac.compare_digest(self.expose(), other.expose())
