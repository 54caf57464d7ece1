"""What a vault of Azure answers when its owner acts, and which class of failure that is."""

import base64
import hashlib
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.integration.azure.conftest import CONTEXT, PAYLOAD, Bench, refused, verdict
from tests.servers.azure_vault import OWN, PURGED_AT, Said, entra_says, says
from twinlock.keys.ports import Corrupt, Denied, Misconfigured, Unavailable, Unclear

FIREWALL = "Client address is not authorized and caller is not a trusted service."
RBAC = "Caller is not authorized to perform action on resource."


async def test_service_alone(bench: Bench) -> None:
    """To wrap and to unwrap are the service's, never ours; to unwrap takes one request, and three rights do for all."""
    vault = bench.open()
    bench.server.make("root")
    wrapped = await vault.wrap(bench.uri, PAYLOAD, CONTEXT)
    asked = list(bench.server.asked)
    bench.server.asked.clear()

    assert ["token", "get", "wrapkey"] == asked
    assert [PAYLOAD] * 2 == [await vault.unwrap(wrapped, CONTEXT) for _ in range(2)]
    assert ["unwrapkey"] * 2 == bench.server.asked
    assert {"get", "wrapKey", "unwrapKey"} == bench.server.allowed


async def test_pinned(bench: Bench) -> None:
    """A description tells the version's fingerprint as every other tool does, and its dates."""
    vault = bench.open()
    key = bench.server.make("root", exp=1893456000, enabled=False)
    found = await vault.describe(bench.uri)
    public = next(iter(key.versions.values())).public_key()
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    assert (hashlib.sha256(der).hexdigest(), False) == (found.fingerprint, found.enabled)
    assert datetime(2030, 1, 1, tzinfo=UTC) == found.expires


@pytest.mark.parametrize(
    ("level", "recoverable"),
    [("Purgeable", False), ("Recoverable+Purgeable", False), ("CustomizedRecoverable+Purgeable", False)]
    + [("Recoverable", True), ("Recoverable+ProtectedSubscription", True), ("CustomizedRecoverable", True)],
)
async def test_recoverable(bench: Bench, level: str, recoverable: bool) -> None:
    """A key that may be purged before its time is not recoverable."""
    bench.server.make("root")
    bench.server.level = level

    assert recoverable == (await bench.open().describe(bench.uri)).recoverable


async def test_disabled(bench: Bench) -> None:
    """A disabled key denies, exactly: to unwrap at the vault, to wrap at ours, because the vault would do it."""
    vault = bench.open()
    wrapped = await bench.wrap(vault)
    bench.server.keys["root"].attributes["enabled"] = False
    calls = (vault.unwrap(wrapped, CONTEXT), vault.wrap(bench.uri, PAYLOAD, CONTEXT))
    failures = [await refused(call) for call in calls]

    assert [(Denied, "key-disabled", True, False)] * 2 == [verdict(each) for each in failures]
    assert ["unwrapkey", "get"] == bench.server.asked


async def test_soft_deleted(bench: Bench) -> None:
    """A key that was not found is looked for among the deleted ones: there, it is an exact denial."""
    vault = bench.open()
    wrapped = await bench.wrap(vault)
    bench.server.soft_delete("root")
    failure = await refused(vault.unwrap(wrapped, CONTEXT))

    assert (Denied, "key-soft-deleted", True, False) == verdict(failure)
    assert ["unwrapkey", "get", "deletedkeys"] == bench.server.asked
    bench.server.recover("root")
    assert PAYLOAD == await vault.unwrap(wrapped, CONTEXT)


@pytest.mark.parametrize("looks", [None, says(403, "Forbidden", RBAC, "ForbiddenByRbac"), says(500, "InternalError")])
async def test_gone(bench: Bench, looks: Said | None) -> None:
    """A key that is nowhere denies, but not exactly, also where we may not look among the deleted ones."""
    vault = bench.open()
    wrapped = await bench.wrap(vault)
    del bench.server.keys["root"]
    if looks is not None:
        bench.server.says["deletedkeys"] = looks
    failures = [await refused(call) for call in (vault.unwrap(wrapped, CONTEXT), vault.describe(bench.uri))]

    assert [(Denied, "key-gone", False, False), (Misconfigured, "key-unknown", False, False)] == [
        verdict(each) for each in failures
    ]


async def test_made_again(bench: Bench) -> None:
    """A key that was made again has other versions: that of the old one is gone, exactly (law 1)."""
    vault = bench.open()
    wrapped = await bench.wrap(vault)
    del bench.server.keys["root"]
    bench.server.make("root")
    again = await vault.describe(bench.uri)

    assert (Denied, "version-gone", True, False) == verdict(await refused(vault.unwrap(wrapped, CONTEXT)))
    assert not again.is_key(wrapped.identity)


async def test_found_again(bench: Bench) -> None:
    """A key that is not found, and there at the second look, is nobody's act."""
    vault = bench.open()
    wrapped = await bench.wrap(vault)
    bench.server.says["unwrapkey"] = says(404, "KeyNotFound", "A key with (name/id) root was not found")

    assert (Unclear, "unknown-answer", False, False) == verdict(await refused(vault.unwrap(wrapped, CONTEXT)))


ANSWERS = [
    (says(403, "Forbidden", RBAC, "ForbiddenByRbac"), (Denied, "permission-denied", False, False)),
    (says(403, "Forbidden", FIREWALL, "ForbiddenByFirewall"), (Unclear, "network-denied", False, False)),
    (says(403, "Forbidden", f"{RBAC} {FIREWALL}"), (Unclear, "network-denied", False, False)),
    (says(400, "BadParameter", "Unable to decrypt specified value"), (Corrupt, "decrypt-failed", False, False)),
    (says(429, "Throttled", "Too many requests"), (Unavailable, "rate-limited", False, False)),
    (says(503, "ServiceUnavailable"), (Unavailable, "server-fault", False, True)),
    (Said(502, b"<html>Bad Gateway</html>", {"Content-Type": "text/html"}), (Unavailable, "server-fault", False, True)),
    (Said(401, says(401, "Unauthorized", "AKV10022: Invalid audience.").body), (Misconfigured, "token-refused")),
    (Said(307, b"", {"Location": "https://127.0.0.1:1/keys/root"}), (Misconfigured, "address", False, False)),
    (Said(200, b"{}"), (Unclear, "unknown-answer", False, False)),
    (Said(200, b'{"value": "AAAA"'), (Unclear, "unknown-answer", False, False)),
]


@pytest.mark.parametrize(("answer", "expected"), ANSWERS)
async def test_answers(bench: Bench, answer: Said, expected: tuple[object, ...]) -> None:
    """Every answer comes through the vendor's library as the vault has put it; only a refused token is tried anew."""
    vault = bench.open()
    wrapped = await bench.wrap(vault)
    bench.server.says["unwrapkey"] = answer
    failure = await refused(vault.unwrap(wrapped, CONTEXT))

    assert expected == verdict(failure)[: len(expected)]
    assert (2 if answer.status == 401 else 1) == bench.server.asked.count("unwrapkey")
    assert len(failure.request_id) in (0, 36)


@pytest.mark.parametrize(("said", "seconds"), [("7", 7.0), ("Fri, 27 Nov 2026 23:59:59 GMT", None), ("-1", None)])
async def test_retry_after(bench: Bench, said: str, seconds: float | None) -> None:
    """Whoever limits us says for how long, in seconds."""
    vault = bench.open()
    wrapped = await bench.wrap(vault)
    bench.server.says["unwrapkey"] = Said(429, b"", {"Retry-After": said})

    assert seconds == (await refused(vault.unwrap(wrapped, CONTEXT))).retry_after


ENTRA = [
    (entra_says(400, 700016, "Application was not found in the directory."), (Denied, "consent-gone", False, False)),
    (entra_says(401, 7000222, "The secret is expired."), (Misconfigured, "login-refused", False, False)),
    (entra_says(401, 7000112, "Application is disabled."), (Unclear, "application-disabled", False, False)),
    (entra_says(503, 90033, "A transient error."), (Unavailable, "server-fault", False, True)),
    (Said(429, b"slow down", {"Content-Type": "text/plain"}), (Unavailable, "rate-limited", False, False)),
    (Said(200, b"<html>captive portal</html>", {"Content-Type": "text/html"}), (Unclear, "unknown-answer")),
    (Said(200, b'{"access_token": "a b", "expires_in": 3599}'), (Unclear, "unknown-answer", False, False)),
    (Said(302, b"", {"Location": "https://127.0.0.1:1/"}), (Misconfigured, "address", False, False)),
]


@pytest.mark.parametrize(("answer", "expected"), ENTRA)
async def test_no_token(bench: Bench, answer: Said, expected: tuple[object, ...]) -> None:
    """What is said in place of a token is judged as it came, asked for once, and nothing is asked of the vault."""
    vault = bench.open()
    bench.server.make("root")
    bench.server.says["token"] = answer
    failure = await refused(vault.describe(bench.uri))

    assert expected == verdict(failure)[: len(expected)]
    assert ["token"] == bench.server.asked
    del bench.server.says["token"]
    assert (await vault.describe(bench.uri)).enabled


@pytest.mark.parametrize("silent", ["token", "unwrapkey"])
async def test_silence(bench: Bench, silent: str) -> None:
    """A vault, or a directory, that does not answer in time is an outage, and holds nobody up any longer (law 5)."""
    wrapped = await bench.wrap(bench.open())
    bench.server.silent = {silent}
    failure = await refused(bench.open(deadline=1.0).unwrap(wrapped, CONTEXT))

    assert (Unavailable, "no-answer", False, True) == verdict(failure)


@pytest.mark.parametrize("kind", ["EC", "oct-HSM"])
async def test_wrong_type(bench: Bench, kind: str) -> None:
    """A key that is not RSA is our own mistake."""
    bench.server.make("root", kind)

    assert (Misconfigured, "key-wrong-type", False, False) == verdict(await refused(bench.open().describe(bench.uri)))


@pytest.mark.parametrize(("bits", "kind"), [(3072, "RSA"), (4096, "RSA-HSM")])
async def test_sizes(bench: Bench, bits: int, kind: str) -> None:
    """Keys of every size that is allowed wrap and unwrap; bytes of another size are corrupt."""
    vault = bench.open()
    key = bench.server.make("root", kind)
    (version,) = key.versions
    key.versions[version] = rsa.generate_private_key(65537, bits)
    wrapped = await vault.wrap(bench.uri, PAYLOAD, CONTEXT)

    assert PAYLOAD == await vault.unwrap(wrapped, CONTEXT)
    assert isinstance(await refused(vault.unwrap(replace(wrapped, ciphertext=bytes(256)), CONTEXT)), Corrupt)


async def test_local_fake(bench: Bench) -> None:
    """An answer of another version, or of another key, is no answer."""
    vault = bench.open()
    wrapped = await bench.wrap(vault)
    value = base64.urlsafe_b64encode(PAYLOAD).rstrip(b"=").decode()
    for kid in ("root/" + "0" * 32, f"other/{wrapped.version}"):
        body = f'{{"kid": "https://{bench.server.host}/keys/{kid}", "value": "{value}"}}'
        bench.server.says["unwrapkey"] = Said(200, body.encode())

        assert isinstance(await refused(vault.unwrap(wrapped, CONTEXT)), Unclear)


async def test_destruction_of_protected(bench: Bench) -> None:
    """A vault that is protected keeps a destroyed key to its date: it is said each time, and final after it."""
    vault, final = bench.open(), datetime.fromtimestamp(PURGED_AT, UTC)
    bench.server.allowed |= OWN
    await vault.create(bench.uri)
    wrapped = await vault.wrap(bench.uri, PAYLOAD, CONTEXT)

    assert [final, final] == [(await vault.destroy(bench.uri)).final_at for _ in range(2)]
    assert isinstance(await refused(vault.unwrap(wrapped, CONTEXT)), Denied)
    assert (Denied, "key-soft-deleted", True, False) == verdict(await refused(vault.create(bench.uri)))
    bench.server.deleted.clear()
    assert (await vault.destroy(bench.uri)).is_final


async def test_destruction_without_the_right_to_purge(bench: Bench) -> None:
    """Where our application may not purge, a destruction is final when the vault lets go by itself."""
    vault = bench.open()
    bench.server.allowed |= OWN - {"purge"}
    bench.server.level = "Recoverable+Purgeable"
    await vault.create(bench.uri)

    assert datetime.fromtimestamp(PURGED_AT, UTC) == (await vault.destroy(bench.uri)).final_at


async def test_destruction_under_way(bench: Bench) -> None:
    """A deletion that is still under way puts the destruction off, which is no evidence of an outage (law 5)."""
    vault = bench.open()
    bench.server.allowed |= OWN
    bench.server.level = "Recoverable+Purgeable"
    await vault.create(bench.uri)
    bench.server.says["deletedkeys"] = says(404, "KeyNotFound", "Deleted Key not found: root")
    first = await refused(vault.destroy(bench.uri))
    del bench.server.says["deletedkeys"]
    bench.server.says["purge"] = says(409, "Conflict", "", "ObjectIsBeingDeleted")
    second = await refused(vault.destroy(bench.uri))
    del bench.server.says["purge"]

    assert [(Unavailable, "deletion-under-way", False, False)] * 2 == [verdict(each) for each in (first, second)]
    assert (await vault.destroy(bench.uri)).is_final


@pytest.mark.parametrize("gone", [False, True])
async def test_not_ours(bench: Bench, gone: bool) -> None:
    """A key without our label is neither taken for an availability key nor destroyed as one, deleted or not."""
    vault = bench.open()
    bench.server.allowed |= OWN
    bench.server.level = "Recoverable+Purgeable"
    bench.server.make("root")
    if gone:
        bench.server.soft_delete("root")

    assert (Misconfigured, "key-not-ours", False, False) == verdict(await refused(vault.destroy(bench.uri)))
    assert "root" in (bench.server.deleted if gone else bench.server.keys)
