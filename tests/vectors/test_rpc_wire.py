"""Calls to the custodian (docs/formats.md), built by hand from bytes and primitives, without the code under test."""

import base64
import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from twinlock.custody.port import Asker, ContainerRef, JobRef, service
from twinlock.custody.remote.exchange import Answered, Exchange
from twinlock.custody.remote.frames import Frame, Malformed, reply_frame, verify_request
from twinlock.custody.remote.messages import KeyOpened, OpenContainerKey, Request
from twinlock.keys.sealing import OneTimeKey, seal
from twinlock.keys.secret import SecretKey
from twinlock.keys.signing import BadSignature, SigningKey, fingerprint
from twinlock.store.unit import Cause

HPKE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
CALLER = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
HOST = Ed25519PrivateKey.from_private_bytes(bytes(range(32, 64)))
KEY = bytes(range(64, 96))
ANSWER = (
    b'{"body":{"answer":"container-key","ref":{"tenant_id":"t","container_id":"c","generation":3},'
    b'"keep_seconds":60.0,"by_availability_key":false}}'
)
ASKED = {
    "caller": "mailbox_reencryptor",
    "id": "0123456789abcdef0123456789abcdef",
    "expires": 1767225610000,
    "deadline": 10000,
    "reply_key": base64.urlsafe_b64encode(bytes(range(1, 33))).decode(),
    "initiator": "service",
    "purpose": "reencrypt",
    "work": {"id": "reencrypt:c"},
    "correlation": "k",
    "causation": None,
    "operation": {"name": "open-container-key", "ref": {"tenant_id": "t", "container_id": "c", "generation": 3}},
}


def _ours(key: Ed25519PrivateKey) -> SigningKey:
    return SigningKey.from_pem(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def _public(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


def _exchange() -> Exchange:
    asker = Asker(service("reencrypt"), Cause("k"), 10.0, JobRef("reencrypt:c"))
    operation = OpenContainerKey(ref=ContainerRef("t", "c", 3))
    custodians = {hashlib.sha256(_public(HOST)).digest(): _public(HOST)}
    now = datetime(2026, 1, 1, 0, 0, 10, tzinfo=UTC)
    return Exchange.begin("mailbox_reencryptor", _ours(CALLER), custodians, operation, asker, now, 10.0)


def _reply(request: bytes, plain: bytes, one_time: bytes) -> bytes:
    digest = hashlib.sha256(request).digest()
    info = b"twinlock.rpc-seal.v1\x00" + digest
    sealed = HPKE.encrypt(plain, X25519PublicKey.from_public_bytes(one_time), info=info)
    signature = HOST.sign(b"twinlock.rpc-reply.v1\x00" + digest + sealed)
    return b"\x01" + hashlib.sha256(_public(HOST)).digest() + signature + sealed


def test_request_bytes() -> None:
    """A request is version, signer, signature over label and JSON, JSON; the JSON has exactly the documented fields."""
    request = _exchange().request
    body = json.loads(request[97:])
    expected = ASKED | {"id": body["id"], "reply_key": body["reply_key"]}
    CALLER.public_key().verify(request[33:97], b"twinlock.rpc-request.v1\x00" + request[97:])

    assert (b"\x01", hashlib.sha256(_public(CALLER)).digest()) == (request[:1], request[1:33])
    assert expected == body
    assert 32 == len(base64.urlsafe_b64decode(body["reply_key"]))


def test_request_by_hand() -> None:
    """A request that was built by hand is read as what it says."""
    content = json.dumps(ASKED).encode()
    signature = CALLER.sign(b"twinlock.rpc-request.v1\x00" + content)
    raw = b"\x01" + hashlib.sha256(_public(CALLER)).digest() + signature + content
    frame = Frame.parse(raw, 1000)
    verify_request(frame, _public(CALLER))
    request = Request.model_validate_json(frame.content)

    assert (JobRef("reencrypt:c"), bytes(range(1, 33))) == (request.work, request.reply_key)
    assert OpenContainerKey(ref=ContainerRef("t", "c", 3)) == request.operation


def _judged(plain: bytes) -> Answered | None:
    exchange = _exchange()
    one_time = base64.urlsafe_b64decode(json.loads(exchange.request[97:])["reply_key"])
    return exchange.judge(_reply(exchange.request, plain, one_time))


def test_reply_by_hand() -> None:
    """A reply that was built by hand is opened: the JSON's length, the JSON, the key."""
    judged = _judged(len(ANSWER).to_bytes(4, "big") + ANSWER + KEY)

    assert judged is not None
    assert SecretKey(KEY) == judged.key
    assert isinstance(judged.body, KeyOpened)


@pytest.mark.parametrize(
    "plain",
    [
        b"",
        b"\0\0\0",
        len(ANSWER).to_bytes(4, "big") + ANSWER + KEY[:-1],
        len(ANSWER).to_bytes(4, "big") + ANSWER + KEY + b"\0",
        (len(ANSWER) + 1).to_bytes(4, "big") + ANSWER,
        b"\xff\xff\xff\xff" + ANSWER,
        b"\0\0\0\x02{}",
        len(ANSWER).to_bytes(4, "big") + ANSWER.replace(b'"keep_seconds"', b'"kept_seconds"'),
    ],
)
def test_malformed_replies(plain: bytes) -> None:
    """What the custodian itself sealed and signed is still no answer where its form is wrong."""
    assert _judged(plain) is None


def test_reply_bytes() -> None:
    """A reply of ours opens by hand, with the one-time key alone, and its signature covers the request."""
    request, one_time = b"any request", X25519PrivateKey.generate()
    raw = reply_frame(_ours(HOST), request, one_time.public_key().public_bytes_raw(), ANSWER, SecretKey(KEY))
    digest = hashlib.sha256(request).digest()
    HOST.public_key().verify(raw[33:97], b"twinlock.rpc-reply.v1\x00" + digest + raw[97:])
    plain = HPKE.decrypt(raw[97:], one_time, info=b"twinlock.rpc-seal.v1\x00" + digest)

    assert len(ANSWER).to_bytes(4, "big") + ANSWER + KEY == plain
    with pytest.raises(InvalidTag):
        HPKE.decrypt(raw[97:], one_time, info=b"twinlock.rpc-seal.v1\x00" + bytes(32))


@pytest.mark.parametrize("raw", [b"", b"\x01" * 97, b"\x02" * 98, b"\x01" * 101])
def test_malformed_frames(raw: bytes) -> None:
    """A frame that is too short, too long or of another version is none."""
    with pytest.raises(Malformed):
        Frame.parse(raw, 100)


@pytest.mark.parametrize(
    "change",
    [
        {"more": 1},
        {"id": "0123"},
        {"id": "0123456789ABCDEF0123456789abcdef"},
        {"expires": "1767225610000"},
        {"expires": -1},
        {"deadline": 0},
        {"deadline": 120001},
        {"reply_key": "AAAA"},
        {"initiator": "root"},
        {"purpose": "x" * 41},
        {"work": {"id": "j", "source": "s", "more": 1}},
        {"operation": {"name": "destroy"}},
        {"operation": {"name": "rewrap-containers", "refs": [], "target_policy_id": "p"}},
        {"operation": {"name": "probe", "uri": "x" * 2001}},
        {"caller": "../etc"},
    ],
)
def test_malformed_requests(change: dict[str, Any]) -> None:
    """A request with anything more, less or else than documented is refused as a whole."""
    Request.model_validate_json(json.dumps(ASKED))
    with pytest.raises(ValueError, match="validation error"):
        Request.model_validate_json(json.dumps(ASKED | change))


def test_labels_keep_uses_apart() -> None:
    """What was signed as a request verifies as nothing else, and a seal opens for its own use alone."""
    key = SigningKey.generate()
    frame = Frame(fingerprint(key.public), key.sign(b"twinlock.rpc-reply.v1", b"body"), b"body")
    one_time = OneTimeKey()

    with pytest.raises(BadSignature):
        verify_request(frame, key.public)
    assert b"x" == one_time.open(seal(b"x", one_time.public, b"use"), b"use")
