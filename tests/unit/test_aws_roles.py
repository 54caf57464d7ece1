"""Taking on a role in the account of a key; a stand-in answers at the wire."""

import asyncio
import logging
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.servers.aws_wire import BLOB, KEY, PAYLOAD, ROLE, Answer, Wire, answer, cut, refusal, sts_refusal, wired
from tests.servers.process import free_ports
from tests.servers.receiver import silence
from tests.unit.aws_bench import CONTEXT, EXTERNAL_ID, OWN, on_wire, refused, verdict
from twinlock.clock import ManualClock
from twinlock.keys.ports import Denied, Misconfigured, Unavailable, Unclear, VaultFailure

HOUR = 3600.0
OVER = refusal("ExpiredTokenException", "The security token included in the request is expired")
DENIED = refusal("AccessDeniedException", "because no resource-based policies allow access")
IDENTITY = refusal("AccessDeniedException", "because no identity-based policy allows the kms:Decrypt action")


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    """Bring a stand-in."""
    async with wired() as running:
        yield running


@pytest.fixture
async def vault(wire: Wire, tmp_path: Path, clock: ManualClock) -> AsyncIterator[Any]:
    """Bring a vault in a role."""
    async with on_wire(wire, tmp_path, clock, role=True) as opened:
        yield opened


async def together(number: int, call: Callable[[], Awaitable[object]]) -> None:
    """Make the same call many times at once."""

    async def one() -> None:
        await call()

    async with asyncio.TaskGroup() as group:
        for _ in range(number):
            group.create_task(one())


async def test_role(wire: Wire, vault: Any) -> None:
    """Many first calls take on the role once, with its external id, and sign with what that gives."""
    await together(20, lambda: vault.describe(KEY))
    asked = wire.parameters[0]

    assert 1 == wire.count("AssumeRole")
    assert (ROLE, EXTERNAL_ID, "3600") == (asked["RoleArn"], asked["ExternalId"], asked["DurationSeconds"])
    assert {"AKIAUS", "ASIA1"} == set(wire.signers)
    assert "AKIAUS" == wire.signers[0]


async def test_first_calls_fail_together(wire: Wire, vault: Any) -> None:
    """Many first calls that may not take on the role ask once, and all of them are told."""
    wire.always["AssumeRole"] = sts_refusal("AccessDenied", "is not authorized to perform: sts:AssumeRole")
    failures: list[VaultFailure] = []

    async def failing() -> None:
        failures.append(await refused(vault.describe(KEY)))

    await together(20, failing)

    assert [(Unclear, "role-refused", False, False)] * 20 == list(map(verdict, failures))
    assert 1 == wire.count("AssumeRole")


async def test_renewal(wire: Wire, vault: Any) -> None:
    """A session is renewed once two thirds of it are over, by one of those who call then."""
    await vault.describe(KEY)
    clock: ManualClock = vault._accounts._clock
    clock.advance(HOUR * 0.6)
    await vault.describe(KEY)
    early = wire.count("AssumeRole")
    clock.advance(HOUR * 0.1)
    await together(20, lambda: vault.describe(KEY))

    assert (1, 2) == (early, wire.count("AssumeRole"))
    assert "ASIA2" == wire.signers[-1]


@pytest.mark.parametrize("trouble", [sts_refusal("AccessDenied"), answer("no XML"), cut, silence])
async def test_renewal_fails(wire: Wire, tmp_path: Path, clock: ManualClock, trouble: Answer) -> None:
    """A renewal that fails costs nobody a call; the session is good until it ends, and is needed then."""
    async with on_wire(wire, tmp_path, clock, role=True, deadline=3.0) as vault:
        await vault.describe(KEY)
        wire.always["AssumeRole"] = trouble
        clock.advance(HOUR * 0.7)
        for _ in range(2):
            assert (await vault.describe(KEY)).enabled
        during = wire.count("AssumeRole")
        clock.advance(HOUR)
        await refused(vault.describe(KEY))

    assert (2, 3) == (during, wire.count("AssumeRole"))


@pytest.mark.parametrize(
    ("trouble", "expected"),
    [
        (sts_refusal("AccessDenied"), (Unclear, "role-refused", False, False)),
        (sts_refusal("ExpiredToken"), (Misconfigured, "identity-refused", False, False)),
        (sts_refusal("InvalidClientTokenId"), (Misconfigured, "identity-refused", False, False)),
        (sts_refusal("Throttling", status=400), (Unavailable, "rate-limited", False, False)),
        (sts_refusal("InternalFailure", status=500), (Unavailable, "server-fault", False, True)),
        (cut, (Unavailable, "unreachable", False, True)),
    ],
)
async def test_no_role(wire: Wire, vault: Any, trouble: Answer, expected: tuple[object, ...]) -> None:
    """Why a role could not be taken on is told in the classes of the vault."""
    wire.always["AssumeRole"] = trouble

    assert expected == verdict(await refused(vault.describe(KEY)))


async def test_session_over(wire: Wire, vault: Any) -> None:
    """A session that was ended is replaced within the call that met that."""
    wrapped = await vault.wrap(KEY, PAYLOAD, CONTEXT)
    vault._accounts._clock.advance(120)
    wire.due["Decrypt"] = [OVER]

    assert PAYLOAD == await vault.unwrap(wrapped, CONTEXT)
    assert 2 == wire.count("AssumeRole")


async def test_role_deleted(wire: Wire, vault: Any) -> None:
    """Where a session is refused and the role may not be taken on again, nobody can tell yet whose act it was."""
    wrapped = await vault.wrap(KEY, PAYLOAD, CONTEXT)
    vault._accounts._clock.advance(120)
    wire.always |= {"Decrypt": OVER, "AssumeRole": sts_refusal("AccessDenied")}

    assert (Unclear, "role-refused", False, False) == verdict(await refused(vault.unwrap(wrapped, CONTEXT)))


@pytest.mark.parametrize("denial", [DENIED, IDENTITY])
async def test_denied(wire: Wire, vault: Any, denial: Answer) -> None:
    """What is denied to a fresh session of a role of theirs was their act; one new session a minute finds that out."""
    wrapped = await vault.wrap(KEY, PAYLOAD, CONTEXT)
    vault._accounts._clock.advance(120)
    wire.always |= {"Decrypt": denial, "DescribeKey": denial}
    found = [verdict(await refused(vault.unwrap(wrapped, CONTEXT))) for _ in range(3)]

    assert [(Denied, "permission-denied", False, False)] * 3 == found
    assert (2, 4) == (wire.count("AssumeRole"), wire.count("Decrypt"))


async def test_denied_to_us(wire: Wire, tmp_path: Path, clock: ManualClock) -> None:
    """What our own identity's policies forbid is our own mistake."""
    async with on_wire(wire, tmp_path, clock) as vault:
        wrapped = await vault.wrap(KEY, PAYLOAD, CONTEXT)
        wire.always |= {"Decrypt": IDENTITY, "DescribeKey": IDENTITY}
        failure = await refused(vault.unwrap(wrapped, CONTEXT))

    assert (Misconfigured, "own-permission-denied", False, False) == verdict(failure)


@pytest.mark.parametrize("content", [None, "", "[other]\n", "[default]\naws_access_key_id = x\n", "no section", "\0"])
async def test_bad_file(wire: Wire, tmp_path: Path, clock: ManualClock, content: str | None) -> None:
    """A file without credentials is our own mistake, and is read again for the next call."""
    async with on_wire(wire, tmp_path, clock, credentials_file=Path("given")) as vault:
        if content is not None:
            (tmp_path / "given").write_text(content)
        failure = await refused(vault.describe(KEY))
        (tmp_path / "given").write_text(OWN)

        assert (Misconfigured, "no-identity", False, False) == verdict(failure)
        assert (await vault.describe(KEY)).enabled


async def test_new_credentials(wire: Wire, tmp_path: Path, clock: ManualClock) -> None:
    """Credentials that were replaced in their file are taken up without anybody's help."""
    async with on_wire(wire, tmp_path, clock) as vault:
        await vault.describe(KEY)
        (tmp_path / "us").write_text(OWN.replace("AKIAUS", "AKIANEW"))
        await vault.describe(KEY)

    assert ["AKIAUS", "AKIANEW"] == wire.signers


async def test_nobody(wire: Wire, tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a file Amazon's own places are looked at, and where nothing is we are nobody."""
    for name in ("CONFIG_FILE", "SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(f"AWS_{name}", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    async with on_wire(wire, tmp_path, clock, credentials_file=None) as vault:
        failure = await refused(vault.describe(KEY))
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENV")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")

        assert (await vault.describe(KEY)).enabled

    assert (Misconfigured, "no-identity", False, False) == verdict(failure)
    assert ["AKIAENV"] == wire.signers


async def test_environment(wire: Wire, tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment says to Amazon's tools changes nothing here, once it is known who we are."""
    nowhere = f"http://127.0.0.1:{free_ports(1)[0]}"
    hostile = {"AWS_PROFILE": "missing", "AWS_ENDPOINT_URL": nowhere, "AWS_MAX_ATTEMPTS": "9", "HTTP_PROXY": nowhere}
    for name, value in {**hostile, "AWS_DEFAULTS_MODE": "auto", "AWS_RETRY_MODE": "adaptive"}.items():
        monkeypatch.setenv(name, value)
    async with on_wire(wire, tmp_path, clock, role=True) as vault:
        assert (await vault.describe(KEY)).enabled
        wire.always["DescribeKey"] = refusal("KMSInternalException", status=500)
        failure = await refused(vault.describe(KEY))

    assert (Unavailable, "server-fault", False, True) == verdict(failure)
    assert ["AssumeRole", "DescribeKey", "DescribeKey"] == wire.asked


async def test_unknown_account(wire: Wire, tmp_path: Path, clock: ManualClock) -> None:
    """An account that no setting names is never called."""
    async with on_wire(wire, tmp_path, clock, accounts={}) as vault:
        failure = await refused(vault.describe(KEY))

    assert (Misconfigured, "no-account", False, False) == verdict(failure)
    assert [] == wire.asked


async def test_cancelled(wire: Wire, vault: Any) -> None:
    """A caller that gives up while it takes on the role for others leaves that to the next of them."""
    begun = asyncio.Event()

    async def slow(request: Any) -> Any:
        begun.set()
        return await silence(request)

    wire.due["AssumeRole"] = [slow]
    first, second = (asyncio.ensure_future(vault.describe(KEY)) for _ in range(2))
    await begun.wait()
    first.cancel()

    assert (await second).enabled
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_no_secret_in_sight(wire: Wire, vault: Any, caplog: pytest.LogCaptureFixture) -> None:
    """No repr, no failure and no log shows a key, a session or a payload, though everything is logged that can be."""
    caplog.set_level(logging.DEBUG)
    wrapped = await vault.wrap(KEY, PAYLOAD, CONTEXT)
    await vault.unwrap(wrapped, CONTEXT)
    token, payload, blob = "role-token-1", b64encode(PAYLOAD).decode(), b64encode(BLOB).decode()
    wire.always["Decrypt"] = refusal("SomethingNew", f"{token} {blob}")
    wire.always["Encrypt"] = refusal("SomethingNew", f"{token} {payload}")
    wire.always["AssumeRole"] = sts_refusal("AccessDenied", EXTERNAL_ID)
    told = [await refused(vault.unwrap(wrapped, CONTEXT)), await refused(vault.wrap(KEY, PAYLOAD, CONTEXT))]
    vault._accounts._clock.advance(2 * HOUR)
    told.append(await refused(vault.unwrap(wrapped, CONTEXT)))
    account = next(iter(vault._accounts._open.values()))
    objects = [vault, vars(vault), vars(vault._accounts), account._identity._session, *told, *map(vars, told), wrapped]
    shown = caplog.text + "".join(map(repr, objects))

    assert ["***" in each.raw for each in told] == [True] * 3
    for secret in (token, payload, blob, "a-secret-of-ours", "role-secret", EXTERNAL_ID, repr(PAYLOAD)[2:40]):
        assert secret not in shown
