"""The signature of what a webhook is sent: HMAC-SHA256 over the moment and the exact body (docs/subscribing.md)."""

import hmac
from collections.abc import Sequence
from hashlib import sha256

HEADER = "Twinlock-Signature"


def signature(secrets: Sequence[bytes], at: int, body: bytes) -> str:
    """Return the header's value for a second of Unix time: `t=...,v1=...`, one `v1` for each secret."""
    signed = b"%d." % at + body
    return ",".join([f"t={at}", *(f"v1={hmac.digest(secret, signed, sha256).hex()}" for secret in secrets)])
