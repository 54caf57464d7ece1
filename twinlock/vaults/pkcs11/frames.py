"""What passes between us and a library's process: JSON behind its length in four bytes, bytes in base64.

    request   {"id": 1, "operation": "decrypt", ...}
    answer    {"id": 1, "ok": {...}} or {"id": 1, "fault": {"code": 48}} or {"id": 1, "fault": {"reason": "no-token"}}

The first request, 0, says which token it is and hands the PIN over; its answer says that the process is there. Both
ends import this file, which needs nothing else of ours.
"""

import base64
import binascii
import json
from typing import Any

LENGTH_BYTES = 4
MOST_BYTES = 256 * 1024


class BadFrame(Exception):
    """Say that bytes are no frame; what they are is not told, since they may hold a secret."""


def encode(document: dict[str, Any]) -> bytes:
    """Return a document as it travels."""
    body = json.dumps(document, separators=(",", ":")).encode()
    if len(body) > MOST_BYTES:
        raise BadFrame("too long")
    return len(body).to_bytes(LENGTH_BYTES) + body


def body_length(head: bytes) -> int:
    """Return how many bytes follow, or raise BadFrame."""
    length = int.from_bytes(head)
    if not 0 < length <= MOST_BYTES:
        raise BadFrame("impossible length")
    return length


def decode(body: bytes) -> dict[str, Any]:
    """Return the document, or raise BadFrame."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise BadFrame("not JSON") from None
    if not isinstance(found, dict):
        raise BadFrame("not an object")
    return found


def packed(data: bytes) -> str:
    """Return bytes as a frame holds them."""
    return base64.b64encode(data).decode()


def unpacked(text: object) -> bytes:
    """Return the bytes, or raise BadFrame."""
    if not isinstance(text, str):
        raise BadFrame("not bytes")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadFrame("not bytes") from None
    return data
