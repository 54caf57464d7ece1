"""The chain and the checkpoints of docs/audit.md, built by hand from bytes, without the encoders under test."""

import hashlib
from datetime import UTC, datetime

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from cli.commands.audit import statement_of
from schemas.facts import AuditCheckpointed
from twinlock.custody.audit.chain import Run, link, sign
from twinlock.keys.signing import SigningKey, public_from_pem, public_to_pem

AT = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
SINCE_1970 = 1_767_323_045_000_006
MACS = [bytes([1]) * 32, bytes([2]) * 32]
FIRST = Run(1, "operator", 1, 2, AT, 2)
SECOND = Run(2, "é", 3, 3, AT, 3)


def number(value: int) -> bytes:
    return value.to_bytes(8, "big")


def test_law_15_heads() -> None:
    """Law 15: a head is SHA-256 over its label, the head before, the run's place and its entries' MACs."""
    first = (b"twinlock.audit-seal.v1\x00" + bytes(32) + number(1) + b"\x00\x08operator" + number(1) + number(2)) + (
        number(SINCE_1970) + number(2) + MACS[0] + MACS[1]
    )
    head = hashlib.sha256(first).digest()
    second = b"twinlock.audit-seal.v1\x00" + head + number(2) + b"\x00\x02\xc3\xa9" + number(3) + number(3)

    assert head == link(bytes(32), FIRST, MACS)
    assert hashlib.sha256(second + number(SINCE_1970) + number(3) + MACS[0]).digest() == link(head, SECOND, MACS[:1])


def test_law_15_checkpoint() -> None:
    """Law 15: a checkpoint is canonical JSON, and its signature verifies under the public key's file."""
    key = SigningKey.generate()
    signed = sign(key, SECOND, bytes([7]) * 32, {"é": 3, "operator": 2}, AT)
    statement = (
        '{"at":"2026-01-02T03:04:05.000006+00:00","entries":3,"head":"' + "07" * 32 + '","key":"'
        f'{hashlib.sha256(key.public).hexdigest()}","positions":{{"operator":2,"é":3}},"seal":2}}'
    ).encode()
    public = load_pem_public_key(public_to_pem(key.public))
    assert isinstance(public, Ed25519PublicKey)

    assert statement == signed.statement
    assert key.public == public_from_pem(public_to_pem(key.public))
    public.verify(signed.signature, b"twinlock.audit-checkpoint.v1\x00" + statement)
    with pytest.raises(InvalidSignature):
        public.verify(signed.signature, statement)


def test_statement_from_event() -> None:
    """What was signed is the event's data without the signature, in the canonical form, byte for byte."""
    key = SigningKey.generate()
    signed = sign(key, FIRST, bytes(32), {"operator": 2}, AT)
    event = AuditCheckpointed(
        seal=1,
        head="00" * 32,
        entries=2,
        positions={"operator": 2},
        at="2026-01-02T03:04:05.000006+00:00",
        key=hashlib.sha256(key.public).hexdigest(),
        signature=signed.signature.hex(),
    )

    assert signed.statement == statement_of(event)


@pytest.mark.parametrize("pem", [b"", b"-----BEGIN PUBLIC KEY-----\nMA==\n-----END PUBLIC KEY-----\n"])
def test_no_public_key(pem: bytes) -> None:
    """What holds no public key is refused."""
    with pytest.raises(ValueError, match="no public key"):
        public_from_pem(pem)
