"""Whatever a token's library answers, or its process writes, a call ends in one of the five classes, bounded."""

import asyncio
import sys
from asyncio import IncompleteReadError, StreamReader
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pkcs11 import PKCS11Error, exceptions

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
from twinlock.vaults.pkcs11.answers import read_ciphertext, read_keys, read_payload, split_ciphertext
from twinlock.vaults.pkcs11.classify import classify
from twinlock.vaults.pkcs11.codes import code_of
from twinlock.vaults.pkcs11.frames import MOST_BYTES, BadFrame, encode
from twinlock.vaults.pkcs11.line import Answers
from twinlock.vaults.pkcs11.reasons import CODES, Reason, VaultFault, fault_in
from twinlock.vaults.pkcs11.settings import Pkcs11Settings, Pkcs11Token
from twinlock.vaults.pkcs11.vault import Pkcs11Vault

CLASSES = (Unavailable, Denied, Unclear, Misconfigured, Corrupt)
URI = "pkcs11:token=first;object=root"
PIN = "8675309"
HELLO = encode({"id": 0, "ok": {}})
NO_EVIDENCE = (Reason.STARTING, Reason.RESTARTING, Reason.BUSY, Reason.SHORT, Reason.STALE)

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.just(PIN)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=8,
)
HEX = st.one_of(st.binary(max_size=4).map(bytes.hex), st.just("01"), st.text(max_size=4), JSON)
KEY = st.fixed_dictionaries(
    {},
    optional={
        "id": HEX,
        "check": HEX,
        "aes256": st.one_of(st.booleans(), JSON),
        "encrypt": st.one_of(st.booleans(), JSON),
        "decrypt": st.one_of(st.booleans(), JSON),
        "ends": st.one_of(st.sampled_from(["", "20300131", "99991231", "20300231"]), JSON),
    },
)
FOUND = st.fixed_dictionaries(
    {"keys": st.one_of(st.lists(st.one_of(KEY, JSON), max_size=3), JSON)},
    optional={
        "records": st.one_of(st.lists(st.sampled_from(["availability", "destroyed"]), max_size=2), JSON),
        "absent": JSON,
        "nonce": JSON,
        "data": JSON,
    },
)
FAULT = st.fixed_dictionaries(
    {}, optional={"code": st.one_of(st.sampled_from(sorted(CODES)), JSON), "reason": JSON, "barred": JSON}
)
ANSWER = st.one_of(
    st.fixed_dictionaries({"id": st.integers(0, 3)}, optional={"ok": st.one_of(FOUND, JSON), "fault": FAULT}),
    st.dictionaries(st.sampled_from(["id", "ok", "fault"]), JSON),
)


def in_a_class(failure: VaultFailure) -> bool:
    """Say whether a failure is well formed: of one class, and bounded."""
    assert isinstance(failure, CLASSES)
    assert failure.raw
    assert failure.classifier
    assert len(failure.raw) < 200
    assert failure.raw.isprintable()
    assert not failure.counts or isinstance(failure, Unavailable)
    assert not failure.exact or isinstance(failure, Denied)
    return PIN not in repr(failure.__dict__)


# The table of the rules, row by row: what each code is, and whether an outage is evidence for law 5.
ROWS = {
    Unavailable: (0x30, 0x31, 0x32, 0xE0, 0x05, 0x06, 0x02, 0xB0, 0xB1, 0xB3, 0x190, 0x101, 0x60, 0x82, 0xF0),
    Misconfigured: (0xA0, 0xA2, 0xA3, 0xA4, 0x102, 0x103, 0x70, 0x03, 0xE1),
    Denied: (0x68, 0x200),
    Corrupt: (0x40, 0x110, 0x20),
    Unclear: (1 << 31, (1 << 31) + 5, (1 << 32) - 1, 0x07, 0x12, 0x54, 0x150, 0x7FFFFFFF),
}
UNCOUNTED = (0x02, 0x31, 0xB1, 0x60, 0x82, 0xF0)


@pytest.mark.parametrize(("kind", "code"), [(kind, code) for kind, codes in ROWS.items() for code in codes])
def test_row(kind: type[VaultFailure], code: int) -> None:
    """Every code is of the class that the rules give it; what is ours or a stale handle is no evidence (law 5)."""
    failure = classify(fault_in({"code": code}), URI)

    assert kind is type(failure)
    assert in_a_class(failure)
    assert failure.counts == (kind is Unavailable and code not in UNCOUNTED)
    assert not failure.exact  # a code alone is confirmed by a look at the key


def test_every_code_has_its_row() -> None:
    """No code is judged that stands in no row above."""
    assert set(CODES) == {code for kind, codes in ROWS.items() if kind is not Unclear for code in codes}


@pytest.mark.parametrize("reason", Reason)
def test_every_reason(reason: Reason) -> None:
    """Every reason has its verdict, and our own queue, pauses and shortages are no evidence (law 5)."""
    failure = classify(VaultFault(reason), URI)

    assert in_a_class(failure)
    assert failure.counts == (isinstance(failure, Unavailable) and reason not in NO_EVIDENCE)


@given(JSON | FAULT)
def test_any_fault(said: object) -> None:
    """Whatever the process calls a fault is of one class."""
    assert in_a_class(classify(fault_in(said), URI))


@pytest.mark.parametrize("fault", [ValueError(PIN), KeyError(PIN), MemoryError(), OSError(24, PIN), TimeoutError()])
def test_any_exception(fault: Exception) -> None:
    """Every exception is of one class, and its text, which may quote what was sent, is not told."""
    assert in_a_class(classify(fault, URI))


def test_codes() -> None:
    """Each of the library's classes has its number, as the header of PKCS#11 numbers them, and so have its words."""
    kinds = [kind for kind in vars(exceptions).values() if isinstance(kind, type) and kind is not PKCS11Error]
    numbers = {kind.__name__: code_of(kind()) for kind in kinds if issubclass(kind, PKCS11Error)}
    known = [code for name, code in numbers.items() if code]

    assert len(known) == len(set(known))
    assert (0xA0, 0x200, 0x82) == tuple(
        numbers[name] for name in ("PinIncorrect", "FunctionRejected", "ObjectHandleInvalid")
    )
    assert 0x68 == code_of(PKCS11Error("Unmapped error code 0x68"))
    assert 0x80000001 == code_of(PKCS11Error("Unmapped error code 0x80000001"))
    assert 0x190 == code_of(PKCS11Error("Initialisation error (not initialized). Should never see this."))
    assert 0 == code_of(PKCS11Error("OS exception while loading /x.so: no such file"))


@given(FOUND, st.one_of(st.none(), st.text(max_size=5), st.just("1")))
def test_any_keys(found: dict[str, Any], version: str | None) -> None:
    """Whatever a process says of a key is a description, or a fault of ours."""
    try:
        keys = read_keys(URI, found)
        description = keys.describe(version)
        keys.check_unwraps(description.version, description.identity)
    except VaultFault:
        return
    assert isinstance(description, KeyDescription)


@given(FOUND)
@example({"data": "A" * 88})
@example({"nonce": "AAAA", "data": PIN})
def test_any_bytes_of_a_key(found: dict[str, Any]) -> None:
    """Only the bytes that one of our keys can have made are taken for a wrapped key, or for 64 bytes."""
    with pytest.raises(VaultFault):
        read_ciphertext(found)
    with pytest.raises(VaultFault):
        read_payload(found)


@given(st.binary(max_size=200))
@example(b"\x02" + bytes(92))
@example(b"\x01" + bytes(91))
def test_any_ciphertext(stored: bytes) -> None:
    """What a token can't have made of 64 bytes never reaches it."""
    if len(stored) == 93 and stored.startswith(b"\x01"):
        return
    with pytest.raises(VaultFault) as caught:
        split_ciphertext(stored)

    assert caught.value.reason is Reason.NOT_DECRYPTED


@given(content=st.binary(max_size=60))
@example(content=b"")
@example(content=b"\0\0\0\0")
@example(content=b"\xff\xff\xff\xff" + b"x" * 40)
@example(content=(MOST_BYTES + 1).to_bytes(4) + b"x" * 40)
@example(content=(5).to_bytes(4) + b"[1,2]")
@example(content=(3).to_bytes(4) + b"NaN")
@example(content=(4).to_bytes(4) + b'"\xff"')
@example(content=(200_000).to_bytes(4) + b"[" * 200_000)
@example(content=(9).to_bytes(4) + b'{"a": "b')
async def test_any_bytes(content: bytes) -> None:
    """Bytes on the pipe are frames, or are refused, or end too early; a length claimed is not believed."""
    reader = StreamReader()
    reader.feed_data(content)
    reader.feed_eof()
    with pytest.raises((BadFrame, IncompleteReadError)):
        await read_all(Answers(reader))


async def read_all(answers: Answers) -> None:
    """Read answers for as long as they are documents."""
    while True:
        assert isinstance(await answers.next(), dict)


async def test_left_in_the_middle() -> None:
    """Whoever stops waiting in the middle of an answer leaves the next one readable."""
    reader = StreamReader()
    answers = Answers(reader)
    for byte in encode({"id": 1})[:-1]:
        reader.feed_data(bytes([byte]))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await answers.next()
    reader.feed_data(b"}" + encode({"id": 2}))

    assert [{"id": 1}, {"id": 2}] == [await answers.next(), await answers.next()]


SAYS = "import sys; out = sys.stdout.buffer; out.write(bytes.fromhex(sys.argv[1])); out.flush(); {}"
STAYS, ENDS = SAYS.format("sys.stdin.buffer.read()"), SAYS.format("sys.stdin.buffer.read(1)")
FEW = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def opened(folder: Path, content: bytes, script: str = ENDS, deadline: float = 60.0) -> Pkcs11Vault:
    """Open a vault whose token's process says just that, and stays, or ends."""
    (folder / "pin").write_text(PIN)
    token = Pkcs11Token(module=Path("/nowhere.so"), pin_file=Path("pin"))
    given_settings = Pkcs11Settings(deadline=deadline, start_deadline=60.0, tokens={"first": token})
    return Pkcs11Vault(given_settings, folder, ManualClock(), (sys.executable, "-I", "-c", script, content.hex()))


async def failures_of(folder: Path, content: bytes) -> list[VaultFailure | None]:
    """Make every kind of call to a process that says just that."""
    found: list[VaultFailure | None] = []
    vault = opened(folder, content)
    try:
        for call in (
            vault.describe(URI),
            vault.unwrap(WrappedKey(URI, "1", "pkcs11:1", b"\x01" + bytes(92)), b"context"),
        ):
            try:
                await call
                found.append(None)
            except VaultFailure as failure:
                found.append(failure)
    finally:
        await vault.close()
    return found


@FEW
@given(content=st.binary(max_size=60))
async def test_any_output(content: bytes, tmp_path: Path) -> None:
    """A process that writes anything in place of its first answer is of one class."""
    failures = await failures_of(tmp_path, content)

    assert all(failure is not None and in_a_class(failure) for failure in failures)


@FEW
@given(answers=st.lists(ANSWER, max_size=3))
@example(answers=[{"id": 1, "ok": {"keys": [], "records": []}}])
@example(answers=[{"id": 1, "fault": {"code": 0x30, "barred": True}}])
async def test_any_answers(answers: list[dict[str, Any]], tmp_path: Path) -> None:
    """A process that answers anything is of one class, and never makes a payload out of nothing."""
    described, unwrapped = await failures_of(tmp_path, HELLO + b"".join(map(encode, answers)))

    assert described is None or in_a_class(described)
    assert unwrapped is not None
    assert in_a_class(unwrapped)


TRICKS = {
    "nothing": (b"", Misconfigured, "own-fault"),
    "hello and no more": (HELLO, Unavailable, "library-crashed"),
    "half an answer": (HELLO + encode({"id": 1, "ok": {}})[:-2], Unavailable, "library-crashed"),
    "an answer to nothing": (HELLO + encode({"id": 7, "ok": {}}), Unclear, "unknown-answer frame"),
    "a true id": (HELLO + encode({"id": True, "ok": {}}), Unclear, "unknown-answer frame"),
    "words": (HELLO + b"Segmentation fault\n", Unclear, "unknown-answer frame"),
    "neither": (HELLO + encode({"id": 1}), Unclear, "unknown-answer"),
    "an unknown key": (HELLO + encode({"id": 1, "fault": {"reason": "key-destroyed"}}), Unclear, "unknown-answer"),
}


@pytest.mark.parametrize("name", TRICKS)
async def test_tricks(name: str, tmp_path: Path) -> None:
    """What breaks off is a crash, what is no answer is unclear, and a process denies nothing in its own words."""
    content, kind, raw = TRICKS[name]
    failure, _ = await failures_of(tmp_path, content)

    assert (kind, raw) == (type(failure), failure and failure.raw)


async def test_restarts(tmp_path: Path) -> None:
    """A process that crashes starts again at once, then after pauses that grow, and those are no evidence (law 5)."""
    vault = opened(tmp_path, HELLO)
    seen = []
    try:
        for _ in range(3):
            with pytest.raises(Unavailable) as caught:
                await vault.describe(URI)
            seen.append((caught.value.raw, caught.value.counts))
    finally:
        await vault.close()

    assert [("library-crashed", True)] * 2 + [("library-restarting", False)] == seen


async def test_silent(tmp_path: Path) -> None:
    """A process that is silent from the start is no evidence; one that had the library in hand is (law 5)."""
    seen = []
    for content in (b"", HELLO):
        vault = opened(tmp_path, content, STAYS, deadline=1.5)
        try:
            seen.append(await first_failure(vault, HELLO in content))
        finally:
            await vault.close()

    assert [("library-starting", False), ("no-answer", True)] == seen


async def first_failure(vault: Pkcs11Vault, started: bool) -> tuple[str, bool]:
    """Return the failure of a call, once the process has `started`, however long that takes."""
    while True:
        with pytest.raises(Unavailable) as caught:
            await vault.describe(URI)
        if not started or caught.value.raw != "library-starting":
            return caught.value.raw, caught.value.counts


async def test_no_pin_file(tmp_path: Path) -> None:
    """Without a PIN that can be read no process is started, and the name of the file is told."""
    vault = opened(tmp_path, HELLO)
    for content in (None, b"", b"\n", b"\xff", b"a\x07"):
        (tmp_path / "pin").unlink(missing_ok=True)
        if content is not None:
            (tmp_path / "pin").write_bytes(content)
        with pytest.raises(Misconfigured) as caught:
            await vault.describe(URI)

        assert "file-unreadable pin" == caught.value.raw
    await vault.close()
