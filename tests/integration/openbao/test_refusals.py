"""What a real server answers when its owner acts, and which class of failure that is."""

from dataclasses import replace

import pytest

from tests.integration.openbao.conftest import CONTEXT, KEY, PAYLOAD, Bench, refused
from tests.servers.openbao import OpenBao
from twinlock.keys.ports import Corrupt, Denied, Misconfigured, Unavailable, Unclear, VaultFailure

KINDS = ["aes256-gcm96", "rsa-2048", "rsa-3072", "rsa-4096"]


def verdict(failure: VaultFailure) -> tuple[type[VaultFailure], str, bool, bool]:
    """Return what a failure is judged by."""
    return type(failure), failure.raw.partition(" ")[0], failure.exact, failure.counts


@pytest.mark.parametrize("kind", KINDS)
async def test_round_trip(bench: Bench, kind: str) -> None:
    """Every type of key that is allowed wraps and unwraps."""
    vault = bench.open()
    wrapped = await bench.wrap(vault, kind)

    assert PAYLOAD == await vault.unwrap(wrapped, CONTEXT)


@pytest.mark.parametrize("kind", ["aes256-gcm96", "rsa-2048"])
async def test_soft_deleted(bench: Bench, kind: str) -> None:
    """A key that is deleted softly denies, exactly, until it is restored."""
    vault = bench.open()
    wrapped = await bench.wrap(vault, kind)
    bench.mount.soft_delete(KEY)
    failures = [await refused(call) for call in (vault.unwrap(wrapped, CONTEXT), vault.describe(bench.uri))]
    bench.mount.restore(KEY)

    assert [(Denied, "key-soft-deleted", True, False)] * 2 == [verdict(each) for each in failures]
    assert PAYLOAD == await vault.unwrap(wrapped, CONTEXT)


async def test_destroyed(bench: Bench) -> None:
    """A key that is deleted for good denies, but not exactly: a wrong mount looks the same."""
    vault = bench.open()
    wrapped = await bench.wrap(vault)
    bench.mount.destroy(KEY)

    assert (Denied, "key-gone", False, False) == verdict(await refused(vault.unwrap(wrapped, CONTEXT)))


@pytest.mark.parametrize("kind", ["aes256-gcm96", "rsa-2048"])
async def test_least_version(bench: Bench, kind: str) -> None:
    """A version below `min_decryption_version` denies, exactly; the newer one works, and is known as the same key."""
    vault = bench.open()
    old = await bench.wrap(vault, kind)
    bench.mount.rotate(KEY)
    new = await vault.wrap(bench.uri, PAYLOAD, CONTEXT)
    bench.mount.change(KEY, min_decryption_version=2)
    failures = [await refused(call) for call in (vault.unwrap(old, CONTEXT), vault.describe(bench.uri, "1"))]
    bench.mount.rotate(KEY)
    newest = await vault.describe(bench.uri)

    assert [(Denied, "version-refused", True, False)] * 2 == [verdict(each) for each in failures]
    assert PAYLOAD == await vault.unwrap(new, CONTEXT)
    assert ("3", True, False) == (newest.version, newest.is_key(new.identity), newest.is_key(old.identity))


async def test_policy_removed(bench: Bench) -> None:
    """A permission that was taken away denies: our token is good for everything else."""
    vault = bench.open()
    wrapped = await bench.wrap(vault)
    bench.mount.forbid()
    failures = [await refused(call) for call in (vault.unwrap(wrapped, CONTEXT), vault.describe(bench.uri))]
    bench.mount.allow()

    assert [(Denied, "permission-denied", False, False)] * 2 == [verdict(each) for each in failures]
    assert PAYLOAD == await vault.unwrap(wrapped, CONTEXT)


async def test_sealed(bench: Bench, openbao: OpenBao) -> None:
    """A sealed vault is unclear: its owner may have meant it, so that it is no evidence of an outage (law 5)."""
    vault = bench.open()
    wrapped = await bench.wrap(vault)
    openbao.seal()
    try:
        failure = await refused(vault.unwrap(wrapped, CONTEXT))
    finally:
        openbao.unseal()

    assert (Unclear, "sealed", False, False) == verdict(failure)
    assert "Vault is sealed" in failure.raw
    assert PAYLOAD == await vault.unwrap(wrapped, CONTEXT)


async def test_sealed_before_login(bench: Bench, openbao: OpenBao) -> None:
    """A vault that is sealed before we logged in is unclear as well."""
    vault = bench.open()
    openbao.seal()
    try:
        failure = await refused(vault.describe(bench.uri))
    finally:
        openbao.unseal()

    assert (Unclear, "sealed", False, False) == verdict(failure)


async def test_namespace(bench: Bench, openbao: OpenBao) -> None:
    """A key in a namespace works; a locked namespace denies, exactly, until it is unlocked."""
    namespace = openbao.namespace()
    bench.mount = openbao.mount(namespace)
    login = bench.approle()
    bench.mount.create(KEY)
    vault = bench.open(replace(login, namespace=namespace))
    wrapped = await vault.wrap(bench.uri, PAYLOAD, CONTEXT)
    with openbao.locked(namespace):
        failure = await refused(vault.unwrap(wrapped, CONTEXT))

    assert (Denied, "namespace-locked", True, False) == verdict(failure)
    assert PAYLOAD == await vault.unwrap(wrapped, CONTEXT)


async def test_rate_limit(bench: Bench, openbao: OpenBao) -> None:
    """A vault that limits us is unavailable, which is no evidence of an outage (law 5)."""
    vault = bench.open()
    wrapped = await bench.wrap(vault)
    with openbao.limited(f"{bench.mount.path}/", 1):
        assert PAYLOAD == await vault.unwrap(wrapped, CONTEXT)
        failure = await refused(vault.unwrap(wrapped, CONTEXT))

    assert (Unavailable, "rate-limited", False, False) == verdict(failure)
    assert PAYLOAD == await vault.unwrap(wrapped, CONTEXT)


async def test_mount_removed(bench: Bench, openbao: OpenBao) -> None:
    """A mount that is gone is unclear."""
    vault = bench.open(bench.token_login(openbao.root))
    wrapped = await bench.wrap(vault)
    bench.mount.remove()

    assert (Unclear, "mount-gone", False, False) == verdict(await refused(vault.unwrap(wrapped, CONTEXT)))


@pytest.mark.parametrize(
    ("kind", "options"), [("ecdsa-p256", {}), ("aes128-gcm96", {}), ("aes256-gcm96", {"derived": True})]
)
async def test_wrong_type(bench: Bench, kind: str, options: dict[str, bool]) -> None:
    """A key of another type, or one that is derived, is our own mistake."""
    vault = bench.open()
    bench.mount.create(KEY, kind, **options)
    failures = [await refused(call) for call in (vault.describe(bench.uri), vault.wrap(bench.uri, PAYLOAD, CONTEXT))]

    assert [(Misconfigured, "key-wrong-type", False, False)] * 2 == [verdict(each) for each in failures]


async def test_no_key_is_made(bench: Bench, openbao: OpenBao) -> None:
    """A wrap never makes a key, not even for a login that may, and not when the key goes after we looked at it."""
    vault = bench.open(bench.token_login(openbao.root))
    first = await refused(vault.wrap(bench.uri, PAYLOAD, CONTEXT))
    bench.mount.create(KEY)
    bench.proxy.passing = lambda data: bench.mount.destroy(KEY) if b'"soft_deleted"' in data else None
    second = await refused(vault.wrap(bench.uri, PAYLOAD, CONTEXT))

    assert [(Misconfigured, "key-unknown", False, False)] * 2 == [verdict(first), verdict(second)]
    assert [] == bench.mount.names()


@pytest.mark.parametrize("kind", ["aes256-gcm96", "rsa-2048"])
async def test_made_again(bench: Bench, kind: str) -> None:
    """A key made again under its name is told from damaged bytes, and as many versions do not make it the old one."""
    vault = bench.open()
    wrapped = await bench.wrap(vault, kind)
    bench.mount.make_again(KEY, kind)
    bench.mount.rotate(KEY)

    assert (Denied, "key-replaced", True, False) == verdict(await refused(vault.unwrap(wrapped, CONTEXT)))


async def test_corrupt_without_a_second_look(bench: Bench) -> None:
    """Where nobody may read the key, bytes that do not decrypt are corrupt."""
    vault = bench.open()
    wrapped = await bench.wrap(vault)
    bench.mount.allow(read=False)

    assert (Corrupt, "decrypt-failed", False, False) == verdict(await refused(vault.unwrap(wrapped, b"elsewhere")))


async def test_recoverable(bench: Bench) -> None:
    """A key that may be deleted for good is not recoverable, and the checks of a new policy say so."""
    vault = bench.open()
    bench.mount.create(KEY)
    before = await vault.describe(bench.uri)
    bench.mount.change(KEY, deletion_allowed=True)

    assert [True, False] == [before.recoverable, (await vault.describe(bench.uri)).recoverable]
