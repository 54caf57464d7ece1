"""The certificate of a purge: it verifies without an installation, and no byte of it can be changed."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from twinlock.approvals.statement import Action, NamedPolicy, NamedPurge, Statement
from twinlock.keys.signing import SigningKey, fingerprint
from twinlock.purging.certificate import BadCertificate, check, encode, issue

NOW = datetime(2026, 1, 2, 3, 4, 5, 678, UTC)
KEY, OTHER, ANN, BOB = (SigningKey.generate() for _ in range(4))
STATEMENT = Statement(
    action=Action.PURGE,
    installation="i1",
    tenant_id="t1",
    tenant="acme",
    request="r1",
    reason="the contract has ended",
    requested=NOW,
    expires=NOW + timedelta(days=13),
    policy=NamedPolicy("p1", "main", 3),
    purge=NamedPurge("dpo@acme.example", 259200, fingerprint(KEY.public).hex()),
)


def body(statement: Statement = STATEMENT, *signers: SigningKey, **changed: Any) -> dict[str, Any]:
    signatures = [
        {"public_key": each.public.hex(), "signature": each.sign(statement.label, statement.body).hex()}
        for each in signers or (ANN, BOB)
    ]
    found = {
        "id": "r1",
        "installation": "i1",
        "tenant": {"id": "t1", "name": "acme é"},
        "policy": {"id": "p1", "name": "main"},
        "approval": {"statement": statement.encode().decode(), "signatures": signatures},
    }
    return found | changed


def test_law_16_verifies() -> None:
    """Law 16: a certificate verifies with nothing but itself, names its key, and can be pinned to one."""
    text = issue(KEY, body())

    assert "r1" == check(text).body["id"] == check(text, KEY.public).statement.request
    assert sha256(KEY.public).hexdigest() == check(text).key
    with pytest.raises(BadCertificate, match="and not by the one that is given"):
        check(text, OTHER.public)


def test_law_16_every_byte() -> None:
    """Law 16: a certificate with any byte changed, added or taken away is none."""
    text = issue(KEY, body())
    for place in range(len(text)):
        for mask in (0x01, 0x20, 0x80, 0xFF):
            changed = bytearray(text)
            changed[place] ^= mask
            with pytest.raises(BadCertificate):
                check(bytes(changed))
    for changed_text in (text[:-1], text + b"\n", b" " + text, text.replace(b"\n", b"\r\n"), b"", b"[]", b"{}"):
        with pytest.raises(BadCertificate):
            check(changed_text)


def test_bytes_by_hand() -> None:
    """What is signed is the compact JSON of the certificate below its label, as docs/formats.md says."""
    document = json.loads(issue(KEY, body()))
    signed = json.dumps(document["certificate"], sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    public = Ed25519PublicKey.from_public_bytes(KEY.public)

    public.verify(bytes.fromhex(document["signature"]), b"twinlock.purge-certificate.v1\x00" + signed)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (body(STATEMENT, ANN), "not approved by two"),
        (body(STATEMENT, ANN, ANN), "not approved by two"),
        (body(id="r2"), "something else"),
        (body(policy={"id": "p2", "name": "main"}), "something else"),
        (body(tenant={"id": "t2", "name": "acme"}), "something else"),
        (body(installation="i2"), "something else"),
        (body(replace(STATEMENT, action=Action.RESTORE_POLICY)), "something else"),
        (body(replace(STATEMENT, purge=None)), "not signed by the key that the approvers signed for"),
        (body(approval={"statement": "", "signatures": []}), "no statement"),
        (body(approval={}), "lacks"),
    ],
)
def test_law_16_of_what_was_approved(wrong: dict[str, Any], why: str) -> None:
    """Law 16: a certificate whose approval is of something else, or of fewer than two, is none, whoever signed it."""
    with pytest.raises(BadCertificate, match=why):
        check(issue(KEY, wrong))


def test_law_16_another_key() -> None:
    """Law 16: a certificate by another key than the approvers signed for is none."""
    with pytest.raises(BadCertificate, match="the key that the approvers signed for"):
        check(issue(OTHER, body()))


def test_another_signature() -> None:
    """A certificate whose signature is of other bytes, or of an approver's that is not theirs, is none."""
    document = json.loads(issue(KEY, body()))
    other = json.loads(issue(KEY, body(installation="i1", extra="x")))
    with pytest.raises(BadCertificate, match="does not fit"):
        check(encode(document | {"signature": other["signature"]}))
    swapped = body()
    first, second = swapped["approval"]["signatures"]
    first["signature"], second["signature"] = second["signature"], first["signature"]
    with pytest.raises(BadCertificate, match="does not fit"):
        check(issue(KEY, swapped))
