"""Logging in with the vendor's own library: every kind of login, what is said of it, and whom it is meant for."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.integration.azure.conftest import CONTEXT, LOGIN, PAYLOAD, Bench, refused, verdict
from tests.servers.azure_vault import CLIENT, SECRET, key_vault
from twinlock.keys.ports import Misconfigured, Unavailable, Unclear, VaultFailure
from twinlock.vaults.azure.settings import AzureDirectory, AzureHost

OTHER = "9b2e7c1a-0000-4000-8000-000000000001"


async def together(number: int, call: Callable[[], Awaitable[object]]) -> None:
    """Make the same call many times at once."""

    async def one() -> None:
        await call()

    async with asyncio.TaskGroup() as group:
        for _ in range(number):
            group.create_task(one())


async def test_once(bench: Bench) -> None:
    """Many first calls at the same time log in once, and so do all vaults of a directory."""
    vault = bench.open()
    bench.server.make("root")
    await together(20, lambda: vault.describe(bench.uri))

    assert 1 == bench.server.asked.count("token")


async def test_failing_together(bench: Bench) -> None:
    """Many first calls that can't log in ask once, and all of them are told."""
    vault = bench.open()
    (bench.folder / "secret").write_text("wrong-secret")
    failures: list[VaultFailure] = []

    async def failing() -> None:
        failures.append(await refused(vault.describe(bench.uri)))

    await together(20, failing)

    assert {(Misconfigured, "login-refused", False, False)} == {verdict(each) for each in failures}
    assert (20, 1) == (len(failures), bench.server.asked.count("token"))


async def test_secret_replaced(bench: Bench) -> None:
    """A secret that was replaced in its file is taken up once the old one is refused."""
    vault = bench.open()
    wrapped = await bench.wrap(vault)
    bench.server.tokens.clear()
    (bench.folder / "secret").write_text("not-yet-known")
    await vault.close()
    failure = await refused(vault.unwrap(wrapped, CONTEXT))
    (bench.folder / "secret").write_text(SECRET)

    assert isinstance(failure, Misconfigured)
    assert "AADSTS7000215" in failure.raw
    assert PAYLOAD == await vault.unwrap(wrapped, CONTEXT)


async def test_refused_token(bench: Bench) -> None:
    """A token that a vault takes no more is replaced within the call that met it."""
    vault = bench.open()
    wrapped = await bench.wrap(vault)
    bench.server.tokens.clear()

    assert PAYLOAD == await vault.unwrap(wrapped, CONTEXT)
    assert ["token", "unwrapkey"] == bench.server.asked


async def test_certificate(bench: Bench) -> None:
    """A certificate logs in by what its key has signed."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "twinlock")])
    issued = x509.load_pem_x509_certificate(bench.certificates.certificate.read_bytes())
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(issued.not_valid_before_utc)
        .not_valid_after(issued.not_valid_after_utc)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (bench.folder / "own.pem").write_bytes(private + certificate.public_bytes(Encoding.PEM))
    vault = bench.open(AzureDirectory(CLIENT, certificate_file=Path("own.pem")))
    bench.server.make("root")

    assert (await vault.describe(bench.uri)).enabled
    assert 3 == len(bench.server.logins[0]["client_assertion"].split("."))


async def test_federated(bench: Bench) -> None:
    """The token of a federated identity is what logs in."""
    (bench.folder / "federated").write_text("a.federated.token\n")
    vault = bench.open(AzureDirectory(CLIENT, token_file=Path("federated")))
    bench.server.make("root")

    assert (await vault.describe(bench.uri)).enabled
    assert "a.federated.token" == bench.server.logins[0]["client_assertion"].strip()


async def test_managed_identity(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A managed identity needs no secret of ours."""
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"https://{bench.server.host}/identity")
    monkeypatch.setenv("IDENTITY_HEADER", "header")
    vault = bench.open(AzureDirectory(managed_identity=True))
    bench.server.make("root")

    assert (await vault.describe(bench.uri)).enabled
    assert ["identity", "get"] == bench.server.asked


async def test_unknown_directory(bench: Bench) -> None:
    """A vault of a directory that the settings do not name gets no token."""
    bench.server.directory = OTHER
    failure = await refused(bench.open().describe(bench.uri))

    assert (Misconfigured, f"no-login {OTHER}") == (type(failure), failure.raw)
    assert [] == bench.server.asked


@pytest.mark.parametrize("resource", ["https://graph.microsoft.com", "https://storage.azure.com", ""])
async def test_other_resource(bench: Bench, resource: str) -> None:
    """Whoever asks for a token that is not one for keys gets none, however it is reached."""
    bench.server.resource = resource
    failure = await refused(bench.open().describe(bench.uri))

    assert isinstance(failure, Misconfigured)
    assert [] == bench.server.asked


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe", b"a\nb", b"x" * 5000])
@pytest.mark.parametrize(
    "login",
    [
        AzureDirectory(CLIENT, secret_file=Path("given")),
        AzureDirectory(CLIENT, certificate_file=Path("given")),
        AzureDirectory(CLIENT, token_file=Path("given")),
    ],
)
async def test_bad_file(bench: Bench, login: AzureDirectory, content: bytes | None) -> None:
    """A file that holds no login is our own mistake, and nothing of it is told."""
    if content is not None:
        (bench.folder / "given").write_bytes(content)
    failure = await refused(bench.open(login).describe(bench.uri))

    assert (Misconfigured, "file-unreadable given") == (type(failure), failure.raw)


async def test_not_trusted(bench: Bench) -> None:
    """A vault whose certificate nobody has vouched for is our own mistake, and so is one that can't be checked."""
    place = bench.server.host
    (bench.folder / "none.pem").write_text("none")
    failures = [
        await refused(bench.open(vaults={place: host}).describe(bench.uri))
        for host in (AzureHost(), AzureHost(Path("none.pem")), AzureHost(Path("missing.pem")))
    ]

    assert [(Misconfigured, "certificate"), *[(Misconfigured, "file-unreadable")] * 2] == [
        verdict(each)[:2] for each in failures
    ]


async def test_nobody_there(bench: Bench) -> None:
    """A vault that refuses connections is an outage; one whose name is unknown may be gone for good (law 5)."""
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    closed = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    await server.wait_closed()
    vault = bench.open(vaults={closed: AzureHost(), "nowhere.invalid": AzureHost()})
    failures = [await refused(vault.describe(f"https://{place}/keys/root")) for place in (closed, "nowhere.invalid")]

    assert [(Unavailable, "unreachable", False, True), (Unclear, "host-unknown", False, False)] == [
        verdict(each) for each in failures
    ]


async def test_own_queue_is_no_evidence(bench: Bench) -> None:
    """Whoever does not get a turn at a busy vault learns nothing of it (law 5)."""
    vault = bench.open(connections=1, deadline=4.0)
    wrapped = await bench.wrap(vault)
    bench.server.silent = {"unwrapkey"}
    failures = []

    async def failing() -> None:
        failures.append(verdict(await refused(vault.unwrap(wrapped, CONTEXT))))

    await together(2, failing)

    assert [(Unavailable, "connections-in-use", False, False), (Unavailable, "no-answer", False, True)] == failures


async def test_two_vaults(bench: Bench) -> None:
    """Vaults of one directory share a login."""
    async with key_vault(bench.certificates, lambda: next(iter(bench.server.make("root").versions.values()))) as other:
        other.make("root")
        other.tokens = bench.server.tokens
        host = AzureHost(bench.certificates.authority, bench.server.host)
        vault = bench.open(vaults={each.host: host for each in (bench.server, other)})
        bench.server.make("root")
        described = [await vault.describe(each.uri("root")) for each in (bench.server, other)]
        await vault.close()

    assert [True, True] == [each.enabled for each in described]
    assert ["token", "get", "get"] == bench.server.asked + other.asked


async def test_no_secret_in_sight(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """No repr, no failure and no log shows a secret or a token, also while both are refused."""
    caplog.set_level(logging.DEBUG)
    vault = bench.open()
    wrapped = await bench.wrap(vault)
    (token,) = bench.server.tokens
    bench.server.allowed.clear()
    denied = await refused(vault.unwrap(wrapped, CONTEXT))
    await vault.close()
    (bench.folder / "secret").write_text("another-secret")
    lost = await refused(vault.unwrap(wrapped, CONTEXT))
    objects = [vault, LOGIN, wrapped, denied, lost, denied.__dict__, lost.__dict__, vars(vault)]
    shown = caplog.text + "".join(map(repr, objects))

    assert "AADSTS7000215" in shown
    for secret in (SECRET, "another-secret", token):
        assert secret not in shown
