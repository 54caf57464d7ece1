"""Keys of blobs under a site key: one for each version of each file, and what is done with it.

The site key itself only wraps. A blob key is no cipher's key either: the stream's key and the content MAC's are derived
from it, so that no key serves two algorithms.
"""

import hmac
from collections import OrderedDict

from cryptography.hazmat.primitives.poly1305 import Poly1305

from twinlock.keys import kdf
from twinlock.keys.context import BlobContext
from twinlock.keys.errors import DecryptionError
from twinlock.keys.guarded import Buffer, Guarded
from twinlock.keys.secret import KEY_BYTES, SecretKey
from twinlock.keys.streaming import SEGMENT_BYTES, Layout, SegmentOpener, StreamEncrypter
from twinlock.keys.wrap import unwrap_key, wrap_key

_REMEMBERED = 512


class ContentMac(Guarded):
    """Compute Poly1305 (RFC 8439) piece by piece.

    Its key is good for one tag alone, and that is all that is ever stored under it: every blob has its own blob key.
    HMAC-SHA256 would take ten times as long as the encryption.
    """

    __slots__ = ("_poly",)

    def __init__(self, key: SecretKey) -> None:
        self._poly = Poly1305(key.expose())

    def update(self, chunk: Buffer) -> None:
        """Add bytes."""
        self._poly.update(chunk)

    def finish(self) -> bytes:
        """Return the 16 bytes for all that was added; nothing may follow."""
        return self._poly.finalize()

    def matches(self, other: bytes) -> bool:
        """Tell, in constant time, whether these are the 16 bytes; nothing may follow."""
        return hmac.compare_digest(self.finish(), other)


class BlobKey(Guarded):
    """Encrypt, open and recognise the content of one version of one file."""

    __slots__ = ("_context", "_mac", "_stream")

    def __init__(self, key: SecretKey, context: BlobContext) -> None:
        self._context = context.encode()
        self._stream = _subkey(key, kdf.Label.BLOB)
        self._mac = _subkey(key, kdf.Label.CONTENT_MAC)

    def encrypter(self) -> StreamEncrypter:
        """Start the one stream that is written under this key."""
        return StreamEncrypter(self._stream, self._context)

    def opener(self, header: Buffer) -> SegmentOpener:
        """Return what opens single segments of the stream with this header."""
        return SegmentOpener(self._stream, self._context, header)

    def mac(self) -> ContentMac:
        """Start the MAC by which an import tells an unchanged file."""
        return ContentMac(self._mac)

    def wipe(self) -> None:
        """Zero the keys; repeating it is no error."""
        self._stream.wipe()
        self._mac.wipe()


class BlobOpener(Guarded):
    """Open any run of segments of one blob whose end was checked: it is as long as its row says, and whole.

    Raise `DecryptionError` where it is not. Objects never change, so this holds for as long as the object is there; a
    segment is authenticated whenever it is read.
    """

    __slots__ = ("_layout", "_opener")

    def __init__(self, opener: SegmentOpener, layout: Layout, length: int, last: Buffer) -> None:
        if length != layout.length:
            raise DecryptionError
        self._layout = layout
        self._opener = opener
        self.open(layout.segments - 1, last)

    def open(self, first: int, ciphertext: Buffer) -> bytes:
        """Return the plaintext of whole segments from `first` on."""
        view, last = memoryview(ciphertext), self._layout.segments - 1
        skipped = self._layout.begin(first)
        if not len(view):
            raise DecryptionError
        segments: list[Buffer] = []
        at = 0
        while at < len(view):
            end = (first + len(segments) + 1) * SEGMENT_BYTES - skipped
            segments.append(view[at:end])
            at = end
        return bytes(self._opener.open(first, segments, last=first + len(segments) - 1 == last))


class SiteCipher(Guarded):
    """Wrap and unwrap the blob keys of one site key generation.

    It keeps a copy of the site key, which the caller may wipe at once. What it remembers of blobs goes with it: the
    custodian decides each time when it is opened again.
    """

    __slots__ = ("_key", "_openers")

    def __init__(self, site: SecretKey) -> None:
        self._key = SecretKey(site.expose())
        self._openers: OrderedDict[tuple[bytes, BlobContext], BlobOpener] = OrderedDict()

    def make(self, context: BlobContext) -> tuple[BlobKey, bytes]:
        """Make the key of a new blob; return it with what is stored of it."""
        key = SecretKey.generate()
        wrapped = wrap_key(self._key, key, context.of_key)
        made = BlobKey(key, context)
        key.wipe()
        return made, wrapped

    def open(self, wrapped: bytes, context: BlobContext) -> BlobKey:
        """Return the key of a stored blob, or raise DecryptionError."""
        key = unwrap_key(self._key, wrapped, context.of_key)
        opened = BlobKey(key, context)
        key.wipe()
        return opened

    def recall(self, wrapped: bytes, context: BlobContext) -> BlobOpener | None:
        """Return what was remembered of exactly this blob, or none."""
        found = self._openers.get((wrapped, context))
        if found is not None:
            self._openers.move_to_end((wrapped, context))
        return found

    def remember(self, wrapped: bytes, context: BlobContext, opener: BlobOpener) -> None:
        """Remember a blob whose end was checked; what was not asked for the longest is forgotten first."""
        self._openers[wrapped, context] = opener
        if len(self._openers) > _REMEMBERED:
            self._openers.popitem(last=False)

    def wipe(self) -> None:
        """Drop every key; repeating it is no error, any other use afterwards is KeyWipedError."""
        self._openers.clear()
        self._key.wipe()


def _subkey(key: SecretKey, label: kdf.Label) -> SecretKey:
    buffer = bytearray(KEY_BYTES)
    kdf.derive_into(key, label, b"", buffer)
    return SecretKey.take(buffer)
