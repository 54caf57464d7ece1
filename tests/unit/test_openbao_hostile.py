"""Whatever a server answers, a call to OpenBao ends in one of the five classes, bounded and without our secrets."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from twinlock.clock import ManualClock
from twinlock.keys.ports import (
    Corrupt,
    Denied,
    KeyDescription,
    Misconfigured,
    Unavailable,
    Unclear,
    VaultFailure,
    WrappedKey,
)
from twinlock.vaults.openbao.answers import read_ciphertext, read_key, read_payload
from twinlock.vaults.openbao.classify import classify
from twinlock.vaults.openbao.client import MOST_BYTES
from twinlock.vaults.openbao.reasons import VERDICTS, Reason, VaultFault, reason_of
from twinlock.vaults.openbao.settings import OpenBaoServer, OpenBaoSettings
from twinlock.vaults.openbao.vault import OpenBaoVault

CLASSES = (Unavailable, Denied, Unclear, Misconfigured, Corrupt)
TOKEN, SECRET = "s.a-token-of-ours", bytes(range(64))
URI = "bao+https://vault.example:8200/transit/keys/root"
AES = bytes(92)

TEXTS = st.one_of(
    st.text(max_size=60),
    st.sampled_from(
        [
            "Vault is sealed",
            "encryption key not found",
            "refusing to use soft-deleted key",
            "ciphertext or signature version is disallowed by policy (too old)",
            "cipher: message authentication failed",
            "1 error occurred:\n\t* permission denied\n\n",
            "permission denied",
            f"you sent {TOKEN}",
        ]
    ),
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=8,
)
VERSION = st.one_of(
    JSON,
    st.fixed_dictionaries(
        {"creation_time": JSON, "public_key": st.one_of(JSON, st.just("-----BEGIN PUBLIC KEY-----"))}
    ),
)
DATA = st.fixed_dictionaries(
    {},
    optional={
        "type": st.one_of(st.sampled_from(["aes256-gcm96", "rsa-2048", "ecdsa-p256"]), JSON),
        "derived": st.one_of(st.just(False), JSON),
        "soft_deleted": st.one_of(st.just(False), JSON),
        "deletion_allowed": JSON,
        "latest_version": st.one_of(st.integers(0, 3), JSON),
        "min_decryption_version": st.one_of(st.integers(0, 3), JSON),
        "keys": st.one_of(st.dictionaries(st.sampled_from(["0", "1", "2", "x", "٣", "99999999999"]), VERSION), JSON),
        "ciphertext": st.one_of(JSON, st.text(max_size=40).map("vault:v1:{}".format)),
        "plaintext": JSON,
        "ttl": JSON,
        "expire_time": JSON,
        "renewable": JSON,
    },
)
DOCUMENT = st.one_of(
    JSON,
    st.fixed_dictionaries({"errors": st.one_of(st.lists(TEXTS, max_size=3), JSON)}, optional={"request_id": JSON}),
    st.fixed_dictionaries({"data": st.one_of(DATA, JSON), "auth": JSON}, optional={"request_id": JSON}),
)
STATUS = st.one_of(
    st.sampled_from([each.value for each in HTTPStatus if each >= 200] + [472, 473]), st.integers(200, 599)
)


def in_a_class(failure: VaultFailure) -> bool:
    """Say whether a failure is well formed: of one class, and bounded."""
    assert isinstance(failure, CLASSES)
    assert failure.raw
    assert failure.classifier
    assert len(failure.raw) < 500
    assert failure.raw.isprintable()
    assert not failure.counts or isinstance(failure, Unavailable)
    assert not failure.exact or isinstance(failure, Denied)
    return TOKEN not in repr(failure.__dict__)


@given(status=STATUS, errors=st.one_of(st.none(), st.lists(TEXTS, max_size=3).map(tuple)))
def test_any_answer(status: int, errors: tuple[str, ...] | None) -> None:
    """Every status with every text is of one class."""
    failure = classify(VaultFault(reason_of(status, errors), f"{status}"), URI)

    assert in_a_class(failure)


@pytest.mark.parametrize("reason", Reason)
def test_every_reason(reason: Reason) -> None:
    """Every reason has its verdict, and only an outage counts (law 5)."""
    assert in_a_class(classify(VaultFault(reason), URI))
    assert VERDICTS[reason].counts == (reason in (Reason.NO_ANSWER, Reason.UNREACHABLE, Reason.SERVER_FAULT))


KNOWN = [
    (503, ("Vault is sealed",), Unclear),
    (503, ("namespace is sealed",), Unclear),
    (503, (), Unavailable),
    (503, None, Unavailable),
    (500, ("1 error occurred:\n\t* failed to RSA decrypt the ciphertext: crypto/rsa: decryption error",), Corrupt),
    (500, ("1 error occurred:\n\t* refusing to use soft-deleted key",), Denied),
    (500, ("internal error",), Unavailable),
    (502, None, Unavailable),
    (504, None, Unavailable),
    (412, ("required index state not present",), Unavailable),
    (429, ("request path: rate limit quota exceeded",), Unavailable),
    (429, ("lease count quota exceeded",), Unavailable),
    (429, ("encryption key not found",), Unavailable),
    (472, None, Unavailable),
    (473, None, Unavailable),
    (501, None, Unclear),
    (400, ("ciphertext or signature version is disallowed by policy (too old)",), Denied),
    (400, ("invalid ciphertext: version is too new",), Corrupt),
    (400, ("invalid ciphertext: no prefix",), Corrupt),
    (400, ("something new",), Unclear),
    (401, None, Misconfigured),
    (403, ("permission denied",), Denied),
    (404, ('no handler for route "x/keys/y". route entry not found.',), Unclear),
    (404, None, Unclear),
    (404, (), Misconfigured),
    (405, ("unsupported operation",), Misconfigured),
    (307, None, Misconfigured),
    (204, None, Unclear),
    (418, None, Unclear),
]


@pytest.mark.parametrize(("status", "errors", "kind"), KNOWN)
def test_known_answers(status: int, errors: tuple[str, ...] | None, kind: type[VaultFailure]) -> None:
    """What servers are known to say is of the class that the rules give it; a status alone never denies but for 403."""
    failure = classify(VaultFault(reason_of(status, errors)), URI)

    assert kind is type(failure)
    assert failure.counts == (kind is Unavailable and status not in (412, 429, 472, 473))


FOREIGN = [
    ValueError("x"),
    RuntimeError("Session is closed"),
    KeyError(TOKEN),
    MemoryError(),
    OSError(24, "too many open files"),
    aiohttp.ClientError("x"),
    aiohttp.ClientPayloadError("x"),
    aiohttp.ServerDisconnectedError(),
    aiohttp.InvalidURL(TOKEN),
    UnicodeError(TOKEN),
    ExceptionGroup(TOKEN, [ValueError()]),
]


@pytest.mark.parametrize("fault", FOREIGN, ids=repr)
def test_any_exception(fault: Exception) -> None:
    """Every exception is of one class, and its text, which may quote what was sent, is not told."""
    assert in_a_class(classify(fault, URI))


def test_no_file_left_is_no_outage() -> None:
    """A process that can't open any more files learns nothing about the vault (law 5)."""
    assert isinstance(classify(OSError(24, "too many open files"), URI), Misconfigured)


@given(DATA, st.one_of(st.none(), st.text(max_size=5)))
def test_any_description(data: dict[str, Any], version: str | None) -> None:
    """Whatever a server says of a key is a description, or a fault of ours."""
    try:
        found = read_key(URI, data).describe(version)
    except VaultFault:
        return
    assert isinstance(found, KeyDescription)
    assert len(found.identity) < 200


@given(DATA)
@example({"ciphertext": "vault:v1:" + "A" * 124})
@example({"ciphertext": "vault:v1:" + "A" * 121 + "B=="})
def test_any_ciphertext(data: dict[str, Any]) -> None:
    """Only the bytes that one of our keys can have made are taken for a wrapped key, or for 64 bytes."""
    with pytest.raises(VaultFault):
        read_ciphertext(data, "1")
    with pytest.raises(VaultFault):
        read_payload(data)


@asynccontextmanager
async def answering(content: bytes, *, stays: bool = False) -> AsyncIterator[int]:
    """Answer every connection's first request with the same bytes, and hang up, or say nothing more."""

    over: list[asyncio.Event] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        over.append(asyncio.Event())
        done = over[-1]
        with suppress(ConnectionError):
            await reader.read(65536)
            writer.write(content)
            if stays:
                await reader.read()  # until the client hangs up
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        done.set()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()
        for each in over:
            await each.wait()


@asynccontextmanager
async def opened(
    port: int, folder: Path, token: str = TOKEN, deadline: float = 20.0
) -> AsyncIterator[tuple[OpenBaoVault, str]]:
    """Open a vault on a port, and name a key there."""
    (folder / "token").write_text(token)
    login = OpenBaoServer(token_file=Path("token"))
    given = OpenBaoSettings(deadline=deadline, allow_http=True, servers={f"127.0.0.1:{port}": login})
    vault = OpenBaoVault(given, folder, ManualClock())
    try:
        yield vault, f"bao+http://127.0.0.1:{port}/transit/keys/root"
    finally:
        await vault.close()


async def failure_of(content: bytes, folder: Path, token: str = TOKEN, *, stays: bool = False) -> VaultFailure:
    """Return the failure of a call to a server that answers so."""
    deadline = 4.0 if stays else 20.0
    async with answering(content, stays=stays) as port, opened(port, folder, token, deadline) as (vault, uri):
        with pytest.raises(VaultFailure) as caught:
            await vault.unwrap(WrappedKey(uri, "1", "openbao:1", AES), b"context")
    return caught.value


async def ends_well(content: bytes, folder: Path) -> bool:
    """Make every kind of call to a server that answers so, and say whether each ends as it may."""
    async with answering(content) as port, opened(port, folder) as (vault, uri):
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: vault.describe(uri),
            lambda: vault.wrap(uri, SECRET, b"context"),
            lambda: vault.unwrap(WrappedKey(uri, "1", "openbao:1", AES), b"context"),
        ]
        return all([await _ends_well(call) for call in calls])


async def _ends_well(call: Callable[[], Awaitable[object]]) -> bool:
    try:
        found = await call()
    except VaultFailure as failure:
        return in_a_class(failure)
    return isinstance(found, KeyDescription)  # nothing here can wrap or unwrap


def http(status: int, body: bytes, *headers: str) -> bytes:
    """Build an answer."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


FEW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FEW
@given(content=st.binary(max_size=300))
@example(content=b"")
@example(content=b"HTTP/1.1 200 OK\r\n\r\n")
@example(content=b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}")
@example(content=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
@example(content=b"HTTP/1.1 100 Continue\r\n\r\n" * 50)
@example(content=b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20000 + b"\r\n\r\n")
@example(content=b"SSH-2.0-OpenSSH_9.2\r\n")
async def test_any_bytes(content: bytes, tmp_path: Path) -> None:
    """A server that does not even speak HTTP is of one class."""
    assert await ends_well(content, tmp_path)


@FEW
@given(status=STATUS, document=DOCUMENT)
async def test_any_document(status: int, document: object, tmp_path: Path) -> None:
    """Any status with any document is of one class, and quotes no secret of ours."""
    assert await ends_well(http(status, json.dumps(document).encode()), tmp_path)


HUGE = b'{"data": "' + b"x" * MOST_BYTES + b'"}'
TRICKS = [
    http(200, HUGE),
    http(500, HUGE),
    http(200, b"[" * 100_000),
    http(200, b"9" * 100_000),
    http(200, b'{"data": 1e999, "auth": NaN}'),
    http(200, b"\x1f\x8b\x08", "Content-Encoding: gzip"),
    http(307, b"", "Location: http://127.0.0.1:1/v1/elsewhere"),
    http(403, b'{"errors": ["permission denied"]}'),
    http(500, json.dumps({"errors": [f"\x1b[31m {TOKEN} {SECRET!r}"]}).encode()),
    http(400, json.dumps({"errors": ["x" * 10_000]}).encode()),
]


@pytest.mark.parametrize("content", TRICKS, ids=range(len(TRICKS)))
async def test_tricks(content: bytes, tmp_path: Path) -> None:
    """Answers made to exhaust or to mislead us are of one class; no redirection is followed."""
    assert await ends_well(content, tmp_path)


async def test_redirection(tmp_path: Path) -> None:
    """Whoever sends us elsewhere gets no token there, and is no vault."""
    met: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda reader, writer: met.append(writer), "127.0.0.1", 0)
    place = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/transit/decrypt/root"
    failures = [await failure_of(http(status, b"", f"Location: {place}"), tmp_path) for status in (301, 302, 307, 308)]
    server.close()

    assert [Misconfigured] * 4 == [type(each) for each in failures]
    assert [] == met


@pytest.mark.parametrize("stays", [False, True])
@pytest.mark.parametrize("status", [400, 403, 404, 500, 503])
async def test_refusal_breaks_off(status: int, stays: bool, tmp_path: Path) -> None:
    """A refusal that breaks off, or stands still, is never taken for an outage: nobody knows what it says (law 5)."""
    content = f"HTTP/1.1 {status} X\r\nContent-Length: 500\r\n\r\n".encode() + b'{"errors": ["API access to'
    failure = await failure_of(content, tmp_path, stays=stays)

    assert (Unclear, f"unknown-answer {status} broken off") == (type(failure), failure.raw)
    assert not failure.counts


@pytest.mark.parametrize("status", [200, 400, 503])
async def test_request_id(status: int, tmp_path: Path) -> None:
    """The server's name for a request is kept, but nothing that is none, and no secret of ours that looks like one."""
    name, secret = "0f8fad5b-d9cb-469f-a165-70867728950e", "7c9e6679-7425-40de-944b-e07fc1f90ae7"
    told = [
        (await failure_of(http(status, json.dumps({"request_id": each}).encode()), tmp_path, secret)).request_id
        for each in (name, secret, TOKEN, name * 2, "", 7, None)
    ]

    assert [name, *[""] * 6] == told


@pytest.mark.parametrize("wrong", ["latest_version", "min_decryption_version", "keys"])
def test_true_is_no_version(wrong: str) -> None:
    """A truth value passes for no version and for no time, though it is a number to Python."""
    good: dict[str, Any] = {"type": "aes256-gcm96", "derived": False, "latest_version": 1, "min_decryption_version": 1}
    good["keys"] = {"1": 1700000000}
    with pytest.raises(VaultFault):
        read_key(URI, {**good, wrong: {"1": True} if wrong == "keys" else True})

    assert "1" == read_key(URI, good).describe().version
