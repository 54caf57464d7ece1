"""Whatever a server answers, a call to AWS KMS ends in one of the five classes, bounded and without our secrets."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.servers.aws_wire import BLOB, KEY, PAYLOAD, REQUEST_ID, Wire, refusal, wired
from tests.servers.process import free_ports
from tests.servers.receiver import silence
from tests.unit.aws_bench import CONTEXT, on_wire, opened, refused, verdict
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
from twinlock.vaults.aws.answers import read_ciphertext, read_key, read_payload
from twinlock.vaults.aws.availability import KmsAvailability
from twinlock.vaults.aws.reasons import VaultFault
from twinlock.vaults.aws.sending import MOST_BYTES
from twinlock.vaults.aws.uris import parse_key_arn

CLASSES = (Unavailable, Denied, Unclear, Misconfigured, Corrupt)
ALIAS = KEY.replace("key/", "alias/")
WRAPPED = WrappedKey(KEY, "1", "aws:1", BLOB)

TEXTS = st.one_of(
    st.text(max_size=60),
    st.sampled_from(
        [
            KEY,
            "Enabled",
            "PendingDeletion",
            "PendingImport",
            "AccessDeniedException",
            "com.amazonaws.kms#DisabledException",
            "KMSInvalidStateException:http://x/",
            "is pending deletion",
            "<html>503 Service Unavailable</html>",
        ]
    ),
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=8,
)
METADATA = st.fixed_dictionaries(
    {},
    optional={
        "Arn": st.one_of(st.just(KEY), JSON),
        "CreationDate": st.one_of(st.just(1504715457.8), st.floats(), JSON),
        "KeyState": st.one_of(st.sampled_from(["Enabled", "Disabled", "PendingDeletion", "Unavailable"]), JSON),
        "KeySpec": st.one_of(st.just("SYMMETRIC_DEFAULT"), JSON),
        "KeyUsage": st.one_of(st.just("ENCRYPT_DECRYPT"), JSON),
        "KeyManager": st.one_of(st.just("CUSTOMER"), JSON),
        "ValidTo": st.one_of(st.floats(), JSON),
        "DeletionDate": JSON,
        "Description": JSON,
    },
)
DOCUMENT = st.one_of(
    JSON,
    st.fixed_dictionaries({"KeyMetadata": st.one_of(METADATA, JSON)}),
    st.fixed_dictionaries({"__type": st.one_of(TEXTS, JSON)}, optional={"message": JSON, "Message": JSON}),
    st.fixed_dictionaries({"Plaintext": JSON, "CiphertextBlob": JSON, "KeyId": st.one_of(st.just(KEY), JSON)}),
)
STATUS = st.one_of(st.sampled_from([each.value for each in HTTPStatus if each >= 200]), st.integers(200, 599))


def in_a_class(failure: VaultFailure) -> bool:
    """Say whether a failure is well formed: of one class, and bounded."""
    assert isinstance(failure, CLASSES)
    assert failure.raw
    assert failure.classifier
    assert len(failure.raw) < 500
    assert failure.raw.isprintable()
    assert not failure.counts or isinstance(failure, Unavailable)
    assert not failure.exact or isinstance(failure, Denied)
    return True


@given(METADATA)
def test_any_description(data: dict[str, Any]) -> None:
    """Whatever a server says of a key is a description, or a fault of ours."""
    try:
        found = read_key(parse_key_arn(KEY), {"KeyMetadata": data}).description
    except VaultFault:
        return
    assert isinstance(found, KeyDescription)


@given(st.fixed_dictionaries({"Plaintext": JSON, "CiphertextBlob": JSON, "KeyId": JSON}))
@example({"CiphertextBlob": BLOB, "KeyId": KEY + "x", "Plaintext": bytes(63)})
@example({"CiphertextBlob": bytes(6145), "KeyId": KEY, "Plaintext": bytes(65)})
def test_any_ciphertext(data: dict[str, Any]) -> None:
    """Only the bytes that the key can have made are taken for a wrapped key, or for 64 bytes."""
    with pytest.raises(VaultFault):
        read_ciphertext(KEY, data)
    with pytest.raises(VaultFault):
        read_payload(data)


@asynccontextmanager
async def answering(content: bytes, *, stays: bool = False) -> AsyncIterator[str]:
    """Answer every connection's first request with the same bytes, and hang up, or say nothing more."""
    over: list[asyncio.Event] = []

    async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        done = asyncio.Event()
        over.append(done)
        with suppress(ConnectionError):
            await reader.read(65536)
            writer.write(content)
            if stays:
                await reader.read()  # until the client hangs up
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        done.set()

    server = await asyncio.start_server(answered, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()
        for each in over:
            await each.wait()


async def ends_well(content: bytes, folder: Path, *, role: bool = False) -> bool:
    """Make every kind of call to a server that answers so, and say whether each ends as it may."""
    async with (
        answering(content) as endpoint,
        opened(endpoint, folder, ManualClock(), role=role) as vault,
        opened(endpoint, folder, ManualClock(), KmsAvailability) as ours,
    ):
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: vault.describe(KEY),
            lambda: vault.wrap(KEY, PAYLOAD, CONTEXT),
            lambda: vault.unwrap(WRAPPED, CONTEXT),
            lambda: ours.create(ALIAS),
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


FEW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FEW
@given(content=st.binary(max_size=300), role=st.booleans())
@example(content=b"", role=True)
@example(content=b"HTTP/1.1 200 OK\r\n\r\n", role=False)
@example(content=b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}", role=False)
@example(content=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", role=False)
@example(content=b"HTTP/1.1 100 Continue\r\n\r\n" * 50, role=False)
@example(content=b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20000 + b"\r\n\r\n", role=False)
@example(content=b"HTTP/1.1 400 X\r\nx-amzn-RequestId: \xff\xfe\r\nContent-Length: 0\r\n\r\n", role=False)
@example(content=b"SSH-2.0-OpenSSH_9.2\r\n", role=True)
async def test_any_bytes(content: bytes, role: bool, tmp_path: Path) -> None:
    """A server that does not even speak HTTP is of one class."""
    assert await ends_well(content, tmp_path, role=role)


@FEW
@given(status=STATUS, document=DOCUMENT)
async def test_any_document(status: int, document: object, tmp_path: Path) -> None:
    """Any status with any document is of one class."""
    assert await ends_well(http(status, json.dumps(document).encode()), tmp_path)


HUGE = b'{"Plaintext": "' + b"x" * MOST_BYTES + b'"}'
BOMB = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaa">' + b"".join(
    b'<!ENTITY %c "%s">' % (98 + level, b"&%c;" % (97 + level) * 50) for level in range(8)
)
TRICKS = [
    http(200, HUGE),
    http(500, HUGE),
    http(200, b"[" * 100_000),
    http(200, b"9" * 100_000),
    http(200, b'{"KeyMetadata": {"CreationDate": 1e999, "KeyState": NaN}}'),
    http(200, b'{"Plaintext": "\xff"}'),
    http(200, b"\x1f\x8b\x08", "Content-Encoding: gzip"),
    http(400, b'{"__type": {"a": 1}, "message": [1]}'),
    http(400, b'{"__type": "DisabledException", "message": "' + b"x" * 10_000 + b'"}'),
    http(400, b"", "x-amzn-query-error: DisabledException;Sender"),
    http(403, b"<ErrorResponse><Error><Code>AccessDenied"),
    http(400, BOMB + b"]><ErrorResponse><Error><Code>&i;</Code></Error></ErrorResponse>"),
    http(500, b"\x1b[31m secrets"),
]


@pytest.mark.parametrize("role", [False, True])
async def test_tricks(role: bool, tmp_path: Path) -> None:
    """Answers made to exhaust or to mislead us are of one class, whether KMS gives them or STS."""
    for content in TRICKS:
        assert await ends_well(content, tmp_path, role=role)


async def test_redirection(tmp_path: Path, clock: ManualClock) -> None:
    """Whoever sends us elsewhere gets nothing there, and is no vault."""
    met: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda reader, writer: met.append(writer), "127.0.0.1", 0)
    place = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    found = []
    for status in (301, 302, 307, 308):
        async with (
            answering(http(status, b"", f"Location: {place}")) as endpoint,
            opened(endpoint, tmp_path, clock) as vault,
        ):
            found.append(verdict(await refused(vault.unwrap(WRAPPED, CONTEXT))))
    server.close()

    assert [(Misconfigured, "address", False, False)] * 4 == found
    assert [] == met


@pytest.mark.parametrize("stays", [False, True])
@pytest.mark.parametrize("status", [400, 500])
async def test_refusal_breaks_off(status: int, stays: bool, tmp_path: Path, clock: ManualClock) -> None:
    """A refusal that breaks off, or stands still, is never taken for an outage: nobody knows what it says (law 5)."""
    content = f"HTTP/1.1 {status} X\r\nContent-Length: 500\r\n\r\n".encode() + b'{"__type": "Disabl'
    async with (
        answering(content, stays=stays) as endpoint,
        opened(endpoint, tmp_path, clock, deadline=4.0 if stays else 20.0) as vault,
    ):
        failure = await refused(vault.unwrap(WRAPPED, CONTEXT))

    assert (Unclear, "unknown-answer", False, False) == verdict(failure)


async def test_nobody_listens(tmp_path: Path, clock: ManualClock) -> None:
    """A port that nobody listens on is an outage, and counts; a name that does not resolve is unclear."""
    async with opened(f"http://127.0.0.1:{free_ports(1)[0]}", tmp_path, clock) as vault:
        assert (Unavailable, "unreachable", False, True) == verdict(await refused(vault.describe(KEY)))
    async with opened("https://no-such-host.invalid", tmp_path, clock) as vault:
        assert (Unclear, "host-unknown", False, False) == verdict(await refused(vault.describe(KEY)))


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    """Bring a stand-in."""
    async with wired() as running:
        yield running


async def test_silence(wire: Wire, tmp_path: Path, clock: ManualClock) -> None:
    """Silence is an outage at the deadline, and counts; who did not get one of our connections learns nothing."""
    async with on_wire(wire, tmp_path, clock, deadline=1.0, connections=1) as vault:
        await vault.describe(KEY)
        wire.always["DescribeKey"] = silence
        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(refused(vault.describe(KEY))) for _ in range(3)]

    silent, busy = (Unavailable, "no-answer", False, True), (Unavailable, "connections-in-use", False, False)
    assert [silent, busy, busy] == [verdict(call.result()) for call in calls]


def tasks() -> set[asyncio.Task[Any]]:
    """Return the tasks that are not the stand-in's."""
    running = asyncio.all_tasks()
    return {task for task in running if "RequestHandler" not in getattr(task.get_coro(), "__qualname__", "")}


async def test_nothing_is_left(wire: Wire, tmp_path: Path, clock: ManualClock) -> None:
    """A cancelled call takes its connection with it, and is not tried again; a closed vault opens anew."""
    before = tasks()
    async with on_wire(wire, tmp_path, clock, role=True) as vault:
        await vault.describe(KEY)
        begun, gone = asyncio.Event(), asyncio.Event()

        async def slow(request: Any) -> Any:
            begun.set()
            try:
                return await silence(request)
            finally:
                gone.set()

        wire.due["DescribeKey"] = [slow]
        call = asyncio.ensure_future(vault.describe(KEY))
        await begun.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await gone.wait()
        asked = wire.count("DescribeKey")
        await vault.close()

        assert 2 == asked
        assert (await vault.describe(KEY)).enabled

    assert before == tasks()


async def test_request_id(wire: Wire, tmp_path: Path, clock: ManualClock) -> None:
    """Amazon's name for a request is kept with the verdict."""
    wire.always["DescribeKey"] = refusal("NotFoundException", "gone")
    async with on_wire(wire, tmp_path, clock) as vault:
        failure = await refused(vault.describe(KEY))

    assert (REQUEST_ID, "key-unknown 400 NotFoundException gone") == (failure.request_id, failure.raw)
