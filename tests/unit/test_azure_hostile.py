"""Whatever a vault of Azure, or who gives out tokens, answers: a call ends in one of the five classes, bounded."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from azure.core.exceptions import AzureError, DecodeError, ServiceRequestError
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.servers.azure_vault import CLIENT, DIRECTORY, RESOURCE, SECRET, tls
from tests.servers.certificates import Certificates
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
from twinlock.vaults.azure.answers import read_ciphertext, read_key, read_payload
from twinlock.vaults.azure.classify import classify
from twinlock.vaults.azure.reasons import VaultFault
from twinlock.vaults.azure.settings import AzureDirectory, AzureHost, AzureSettings
from twinlock.vaults.azure.transport import MOST_BYTES
from twinlock.vaults.azure.uris import parse_azure_uri
from twinlock.vaults.azure.vault import AzureVault

CLASSES = (Unavailable, Denied, Unclear, Misconfigured, Corrupt)
TOKEN, PAYLOAD, VERSION = "token-of-ours", bytes(range(64)), "0a" * 16
URI = "https://contoso.vault.azure.net/keys/root"
KID = f"{URI}/{VERSION}"
KEY = parse_azure_uri(URI)
MODULUS = "w" * 342  # 256 bytes

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=60)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=8,
)
JWK = st.fixed_dictionaries(
    {},
    optional={
        "kid": st.one_of(JSON, st.sampled_from([KID, KID.upper(), URI, f"{URI}x/{VERSION}"])),
        "kty": st.one_of(JSON, st.sampled_from(["RSA", "RSA-HSM", "EC"])),
        "n": st.one_of(JSON, st.sampled_from([MODULUS, "AAAA", MODULUS + "=", "A" * 342])),
        "e": st.one_of(JSON, st.sampled_from(["AQAB", "AA", ""])),
    },
)
ATTRIBUTES = st.fixed_dictionaries(
    {}, optional={"enabled": st.one_of(st.just(True), JSON), "exp": JSON, "recoveryLevel": JSON}
)
TEXTS = st.one_of(
    st.text(max_size=60),
    st.sampled_from(["Forbidden", "KeyDisabled", f"you sent {TOKEN}", "was not found", "AADSTS700016: x"]),
)
DOCUMENT = st.one_of(
    JSON,
    st.fixed_dictionaries(
        {}, optional={"key": st.one_of(JWK, JSON), "attributes": st.one_of(ATTRIBUTES, JSON), "tags": JSON}
    ),
    st.fixed_dictionaries({"kid": st.one_of(st.just(KID), JSON), "value": st.one_of(st.just("A" * 86), JSON)}),
    st.fixed_dictionaries({"error": st.fixed_dictionaries({"code": TEXTS, "message": TEXTS, "innererror": JSON})}),
    st.fixed_dictionaries({"error_description": TEXTS, "error_codes": JSON}),
    st.fixed_dictionaries({"access_token": st.one_of(JSON, st.just(TOKEN)), "expires_in": JSON}, optional={"x": JSON}),
)
STATUS = st.one_of(st.sampled_from([each.value for each in HTTPStatus if each >= 200]), st.integers(200, 599))


def in_a_class(failure: VaultFailure, secret: str = TOKEN) -> bool:
    """Say whether a failure is well formed: of one class, bounded, and without what was sent as a secret."""
    assert isinstance(failure, CLASSES)
    assert failure.raw
    assert failure.classifier
    assert len(failure.raw) < 500
    assert failure.raw.isprintable()
    assert not failure.counts or isinstance(failure, Unavailable)
    assert not failure.exact or isinstance(failure, Denied)
    return secret not in repr(failure.__dict__)


FOREIGN = [
    ValueError("x"),
    RuntimeError("Session is closed"),
    KeyError(TOKEN),
    MemoryError(),
    OSError(24, "too many open files"),
    aiohttp.ClientError("x"),
    AzureError(TOKEN),
    DecodeError(TOKEN),
    ServiceRequestError(TOKEN, error=ValueError(TOKEN)),
    ExceptionGroup(TOKEN, [ValueError()]),
]


@pytest.mark.parametrize("fault", FOREIGN, ids=repr)
def test_any_exception(fault: Exception) -> None:
    """Every exception is of one class, and its text, which may quote what was sent, is not told."""
    assert in_a_class(classify(fault, URI))


@given(jwk=st.one_of(JWK, JSON), attributes=st.one_of(ATTRIBUTES, JSON), tags=JSON)
@example(jwk={"kid": KID, "kty": "RSA", "n": MODULUS, "e": "AQAB"}, attributes={"enabled": True}, tags={"a": 1})
def test_any_description(jwk: object, attributes: object, tags: object) -> None:
    """Whatever a vault says of a key is a description, or a fault of ours."""
    try:
        found = read_key(KEY, {"key": jwk, "attributes": attributes, "tags": tags})
    except VaultFault:
        return
    assert isinstance(found.description, KeyDescription)
    assert len(found.description.identity) < 200


GOOD: dict[str, Any] = {
    "key": {"kid": KID, "kty": "RSA", "n": MODULUS, "e": "AQAB"},
    "attributes": {"enabled": True, "recoveryLevel": "Recoverable"},
}


@given(kid=st.one_of(JSON, st.just(KID)), value=st.one_of(JSON, st.sampled_from(["A" * 86, "B" * 86, "A" * 342])))
@example(kid=KID, value="A" * 85 + "B")
@example(kid=KID, value="A" * 86 + "==")
def test_any_value(kid: object, value: object) -> None:
    """Only bytes of the right key, version and size are taken for a wrapped key, or for 64 bytes."""
    used = read_key(KEY, GOOD)
    said = {"kid": kid, "value": value}
    with suppress(VaultFault):
        assert 256 == len(read_ciphertext(KEY, said, used))
    with suppress(VaultFault):
        assert 64 == len(read_payload(KEY, said, VERSION))


@pytest.mark.parametrize(
    ("place", "name", "wrong"),
    [
        ("attributes", "enabled", 1),
        ("attributes", "exp", True),
        ("attributes", "exp", -1),
        ("attributes", "exp", 2**40),
        ("key", "kid", KID.replace("root", "other")),
        ("key", "kid", f"{URI}/1"),
        ("key", "kty", "RSA2"),
    ],
)
def test_no_guess(place: str, name: str, wrong: object) -> None:
    """A value that is not quite one is not taken for one."""
    with pytest.raises(VaultFault):
        read_key(KEY, {**GOOD, place: {**GOOD[place], name: wrong}})


def http(status: int, body: bytes, *headers: str) -> bytes:
    """Build an answer."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


GRANTED = http(200, json.dumps({"access_token": TOKEN, "expires_in": 3599}).encode(), "Content-Type: application/json")


class Hostile:
    """Be a vault and who gives out tokens: challenge, grant, and then answer with the same bytes for ever."""

    def __init__(self, content: bytes, granted: bytes = GRANTED, *, stays: bool = False) -> None:
        self.port = 0
        self.met: list[bytes] = []
        self.secret = TOKEN if granted == GRANTED else SECRET  # who gets to see it
        self._content = content
        self._granted = granted
        self._stays = stays

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, and hang up, or say nothing more."""
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            self.met.append(head)
            writer.write(self._reply(head))
            await writer.drain()
            if self._stays and b"Bearer" in head:
                await reader.read()  # until the client hangs up
        writer.transport.abort() if self._stays else writer.close()

    def _reply(self, head: bytes) -> bytes:
        if b"/oauth2/v2.0/token" in head.partition(b"\r\n")[0]:
            return self._granted
        if b"Bearer" not in head:
            where = f'authorization="https://127.0.0.1:{self.port}/{DIRECTORY}", resource="{RESOURCE}"'
            return http(401, b"{}", f"WWW-Authenticate: Bearer {where}")
        return self._content


@asynccontextmanager
async def opened(hostile: Hostile, folder: Path, deadline: float = 20.0) -> AsyncIterator[tuple[AzureVault, str]]:
    """Open a vault that is hostile, and name a key there."""
    server = await asyncio.start_server(hostile.answer, "127.0.0.1", 0, ssl=tls(certificates(folder)))
    hostile.port = server.sockets[0].getsockname()[1]
    place = f"127.0.0.1:{hostile.port}"
    given = AzureSettings(
        deadline=deadline,
        directories={DIRECTORY: AzureDirectory(CLIENT, Path("secret"))},
        vaults={place: AzureHost(folder / "authority.pem", place)},
    )
    vault = AzureVault(given, folder)
    try:
        yield vault, f"https://{place}/keys/root"
    finally:
        await vault.close()
        server.close()
        await server.wait_closed()


def certificates(folder: Path) -> Certificates:
    """Return the certificates of a folder, made once."""
    if not (folder / "secret").exists():
        _MADE[folder] = Certificates(folder)
        (folder / "secret").write_text(SECRET)
    return _MADE[folder]


_MADE: dict[Path, Certificates] = {}


async def ends_well(hostile: Hostile, folder: Path) -> bool:
    """Make every kind of call to a vault, and say whether each ends as it may."""
    async with opened(hostile, folder) as (vault, uri):
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: vault.describe(uri),
            lambda: vault.wrap(uri, PAYLOAD, b"context"),
            lambda: vault.unwrap(WrappedKey(uri, VERSION, "azure:1", bytes(256)), b"context"),
        ]
        return all([await _ends_well(call, hostile.secret) for call in calls])


async def _ends_well(call: Callable[[], Awaitable[object]], secret: str) -> bool:
    try:
        found = await call()
    except VaultFailure as failure:
        return in_a_class(failure, secret)
    return isinstance(found, KeyDescription | bytes)  # a payload that is wrong fails at the commitment


FEW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
RUBBISH = [
    b"",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}",
    b"HTTP/1.1 403 OK\r\nContent-Length: 10\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20000 + b"\r\n\r\n",
    b"SSH-2.0-OpenSSH_9.2\r\n",
    http(200, b'{"a": "' + b"x" * MOST_BYTES + b'"}'),
    http(500, b'{"a": "' + b"x" * MOST_BYTES + b'"}'),
    http(200, b"[" * 100_000),
    http(200, b"9" * 100_000),
    http(200, b'{"value": 1e999, "kid": NaN}'),
    http(200, b"\x1f\x8b\x08", "Content-Encoding: gzip"),
    http(403, b"\x1f\x8b\x08", "Content-Encoding: gzip"),
    http(200, b"<a>&b;</a>", "Content-Type: application/xml"),
    http(500, json.dumps({"error": {"message": f"\x1b[31m {TOKEN} {PAYLOAD!r}"}}).encode()),
    http(401, b"{}", "WWW-Authenticate: nonsense"),
    http(401, b"{}", 'WWW-Authenticate: Bearer claims="x", error="y"'),
    http(401, b"{}", 'WWW-Authenticate: Bearer authorization="", resource="\\\\"'),
    http(429, b"", "Retry-After: 99999"),
    http(503, b"", "Retry-After: 99999"),
]


@pytest.mark.parametrize("content", RUBBISH, ids=range(len(RUBBISH)))
async def test_tricks(content: bytes, tmp_path: Path) -> None:
    """Answers made to exhaust or to mislead us are of one class, from the vault and in place of a token."""
    assert await ends_well(Hostile(content), tmp_path)
    assert await ends_well(Hostile(b"", content), tmp_path)


@FEW
@given(content=st.binary(max_size=300))
async def test_any_bytes(content: bytes, tmp_path: Path) -> None:
    """A vault that does not even speak HTTP is of one class."""
    assert await ends_well(Hostile(content), tmp_path)


@FEW
@given(status=STATUS, document=DOCUMENT)
async def test_any_document(status: int, document: object, tmp_path: Path) -> None:
    """Any status with any document is of one class, and quotes no secret of ours."""
    assert await ends_well(Hostile(http(status, json.dumps(document).encode())), tmp_path)


@FEW
@given(status=STATUS, document=DOCUMENT)
async def test_any_token(status: int, document: object, tmp_path: Path) -> None:
    """Any status with any document in place of a token is of one class, and quotes no secret of ours."""
    answer = http(status, json.dumps(document).encode(), "Content-Type: application/json")

    assert await ends_well(Hostile(http(403, b"{}"), answer), tmp_path)


@pytest.mark.parametrize("stays", [False, True])
@pytest.mark.parametrize("status", [400, 403, 404, 503])
async def test_refusal_breaks_off(status: int, stays: bool, tmp_path: Path) -> None:
    """A refusal that breaks off, or stands still, is never taken for an outage: nobody knows what it says (law 5)."""
    content = f"HTTP/1.1 {status} X\r\nContent-Length: 500\r\n\r\n".encode() + b'{"error": {"code": "Forb'
    async with opened(Hostile(content, stays=stays), tmp_path, 4.0 if stays else 20.0) as (vault, uri):
        with pytest.raises(VaultFailure) as caught:
            await vault.unwrap(WrappedKey(uri, VERSION, "azure:1", bytes(256)), b"context")

    assert (Unclear, f"unknown-answer {status} broken off") == (type(caught.value), caught.value.raw)


@pytest.mark.parametrize("status", [200, 400, 500])
async def test_secret_quoted(status: int, tmp_path: Path) -> None:
    """Who gives out tokens may quote our secret: it is not told."""
    body = json.dumps({"error": "x", "error_description": f"AADSTS7000215: Invalid secret {SECRET}."}).encode()

    assert await ends_well(Hostile(b"", http(status, body)), tmp_path)


async def test_redirection(tmp_path: Path) -> None:
    """Whoever sends us elsewhere gets no token there, and is no vault."""
    met: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda reader, writer: met.append(writer), "127.0.0.1", 0)
    place = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/keys/root"
    for status in (301, 307, 308):
        hostile = Hostile(http(status, b"", f"Location: {place}"))
        async with opened(hostile, tmp_path) as (vault, uri):
            with pytest.raises(Misconfigured):
                await vault.describe(uri)
    server.close()

    assert [] == met
