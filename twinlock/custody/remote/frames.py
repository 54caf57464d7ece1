"""The bytes of requests and replies (docs/formats.md): who signed, the signature, and what is signed.

    frame    0x01 || SHA-256 of the signer's public key (32) || signature (64) || content
    request  content is JSON; signed is the content
    reply    content is sealed; signed is SHA-256 of the request's frame || content
    sealed   HPKE to the request's one-time key of: length of the JSON (4) || JSON || a container key (32) or nothing

Because a reply is bound to every byte of its request, none can be moved to another request, nor be older than it.
"""

from dataclasses import dataclass
from hashlib import sha256

from twinlock.keys.sealing import SEAL_OVERHEAD, OneTimeKey, seal
from twinlock.keys.secret import KEY_BYTES, SecretKey
from twinlock.keys.signing import FINGERPRINT_BYTES, SIGNATURE_BYTES, SigningKey, fingerprint, verify

VERSION = b"\x01"
REQUEST_LABEL = b"twinlock.rpc-request.v1"
REPLY_LABEL = b"twinlock.rpc-reply.v1"
SEAL_LABEL = b"twinlock.rpc-seal.v1\x00"
MOST_REQUEST_BYTES = 256 * 1024
MOST_REPLY_BYTES = 1024 * 1024

_SIGNATURE_AT = 1 + FINGERPRINT_BYTES
_CONTENT_AT = _SIGNATURE_AT + SIGNATURE_BYTES
_LENGTH_BYTES = 4


class Malformed(Exception):
    """Say that bytes are no frame of ours."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Hold a frame's parts; nothing of it is verified yet."""

    signer: bytes
    signature: bytes
    content: bytes

    @classmethod
    def parse(cls, raw: bytes, most: int) -> "Frame":
        """Cut a frame, or raise `Malformed`."""
        if not _CONTENT_AT < len(raw) <= most or raw[:1] != VERSION:
            raise Malformed
        return cls(raw[1:_SIGNATURE_AT], raw[_SIGNATURE_AT:_CONTENT_AT], raw[_CONTENT_AT:])


def request_frame(key: SigningKey, body: bytes) -> bytes:
    """Sign a request's JSON."""
    return _frame(key, key.sign(REQUEST_LABEL, body), body, MOST_REQUEST_BYTES)


def verify_request(frame: Frame, public: bytes) -> None:
    """Raise `BadSignature` unless this key signed the request."""
    verify(public, REQUEST_LABEL, frame.content, frame.signature)


def reply_frame(key: SigningKey, request: bytes, one_time: bytes, body: bytes, secret: SecretKey | None) -> bytes:
    """Seal a reply to its request's one-time key, and sign it; ValueError if nobody can open with that key."""
    digest = sha256(request).digest()
    plain = bytearray(len(body).to_bytes(_LENGTH_BYTES, "big") + body)
    room = len(plain)
    if secret is not None:
        plain += secret.expose()
    try:
        sealed = seal(plain, one_time, SEAL_LABEL + digest)
    finally:
        plain[room:] = bytes(len(plain) - room)
    return _frame(key, key.sign(REPLY_LABEL, digest + sealed), sealed, MOST_REPLY_BYTES)


def verify_reply(frame: Frame, public: bytes, request: bytes) -> None:
    """Raise `BadSignature` unless this key signed the reply to this very request."""
    verify(public, REPLY_LABEL, sha256(request).digest() + frame.content, frame.signature)


def open_reply(frame: Frame, one_time: OneTimeKey, request: bytes) -> tuple[bytes, SecretKey | None]:
    """Return a reply's JSON and its container key; raise `DecryptionError` or `Malformed`."""
    if len(frame.content) < SEAL_OVERHEAD + _LENGTH_BYTES:
        raise Malformed
    plain = one_time.open(frame.content, SEAL_LABEL + sha256(request).digest())
    end = _LENGTH_BYTES + int.from_bytes(plain[:_LENGTH_BYTES], "big")
    if len(plain) - end not in (0, KEY_BYTES):
        raise Malformed
    return plain[_LENGTH_BYTES:end], SecretKey(plain[end:]) if len(plain) > end else None


def _frame(key: SigningKey, signature: bytes, content: bytes, most: int) -> bytes:
    frame = VERSION + fingerprint(key.public) + signature + content
    if len(frame) > most:
        raise Malformed
    return frame
