"""The certificate of a purge: a file that anybody checks without this installation.

It is a JSON object with `certificate` and `signature`, with sorted keys, an indent of two and a line feed at the end.

    signature = Ed25519("twinlock.purge-certificate.v1" || 0x00 || JSON of `certificate`)

over UTF-8 JSON with sorted keys, no spaces and no escapes beyond what JSON demands. Only a file of exactly the bytes
that its content is written in is a certificate, so that no byte of one can be changed.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twinlock.approvals.chain import NEEDED
from twinlock.approvals.statement import Action, BadStatement, Statement, parse
from twinlock.errors import TwinlockError
from twinlock.keys.signing import BadSignature, SigningKey, fingerprint, verify

FORMAT = "twinlock.purge-certificate.v1"
MAX_BYTES = 16 * 1024 * 1024


class BadCertificate(TwinlockError):
    """Say why a file is no certificate, or not as it was signed."""

    def __init__(self, why: str) -> None:
        super().__init__(f"not a valid certificate: {why}", hint="get it again: twinlock purge certificate ID")


@dataclass(frozen=True, slots=True)
class Certificate:
    """Hold a certificate whose signatures fit: its body, and the fingerprint of the key that signed it."""

    body: Mapping[str, Any]
    statement: Statement
    key: str


def issue(key: SigningKey, body: Mapping[str, Any]) -> bytes:
    """Return the file of a certificate with this body, to which format and key are added."""
    signed = {**body, "format": FORMAT, "key": key.public.hex()}
    return encode({"certificate": signed, "signature": key.sign(FORMAT.encode(), _canonical(signed)).hex()})


def encode(document: Mapping[str, Any]) -> bytes:
    """Return the one way in which a certificate is written."""
    return (json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def check(text: bytes, pinned: bytes | None = None) -> Certificate:
    """Return a certificate, every signature in it verified; raise `BadCertificate`.

    `pinned` is the public key that has to have signed it; without one it is the key that the approvers signed for.
    """
    body, signature = _read(text)
    try:
        public = bytes.fromhex(body["key"])
        verify(public, FORMAT.encode(), _canonical(body), bytes.fromhex(signature))
        statement = _statement(body)
        _check_approvals(body, statement)
    except BadSignature:
        raise BadCertificate("a signature does not fit") from None
    except (KeyError, TypeError, ValueError, AttributeError):
        raise BadCertificate("it lacks what every certificate has") from None
    key = fingerprint(public).hex()
    if pinned is not None and pinned != public:
        raise BadCertificate(f"it is signed by the key {key}, and not by the one that is given")
    if statement.purge is None or statement.purge.certificate_key != key:
        raise BadCertificate("it is not signed by the key that the approvers signed for")
    return Certificate(body, statement, key)


def _read(text: bytes) -> tuple[dict[str, Any], str]:
    if len(text) > MAX_BYTES:
        raise BadCertificate("it is too long")
    try:
        document = json.loads(text)
        body, signature = document["certificate"], document["signature"]
        same = encode(document) == text and len(document) == len(("certificate", "signature"))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BadCertificate("it can't be read") from None
    written = same and isinstance(body, dict) and isinstance(signature, str) and signature == signature.lower()
    if not written or body.get("format") != FORMAT:
        raise BadCertificate("it is not as a certificate is written")
    return body, signature


def _statement(body: Mapping[str, Any]) -> Statement:
    try:
        found = parse(body["approval"]["statement"].encode())
    except BadStatement:
        raise BadCertificate("what was approved is no statement") from None
    policy = found.policy
    told = (body["id"], body["installation"], body["tenant"]["id"], body["policy"]["id"], Action.PURGE)
    if policy is None or told != (found.request, found.installation, found.tenant_id, policy.id, found.action):
        raise BadCertificate("what was approved is something else")
    return found


def _check_approvals(body: Mapping[str, Any], statement: Statement) -> None:
    """Verify that enough different keys signed; whose they are, the tenant knows."""
    signers = set()
    for each in body["approval"]["signatures"]:
        public = bytes.fromhex(each["public_key"])
        verify(public, statement.label, statement.body, bytes.fromhex(each["signature"]))
        signers.add(public)
    if len(signers) < NEEDED:
        raise BadCertificate("it is not approved by two")


def _canonical(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
