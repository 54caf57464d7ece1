"""What happens to a real token and to the keys on it, and how each is told from the others."""

import secrets
from datetime import UTC, datetime
from typing import Any

import pkcs11
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pkcs11 import Attribute, KeyType, ObjectClass

from tests.integration.pkcs11.conftest import CONTEXT, OTHER, PAYLOAD, TOKEN, Bench, refused
from twinlock.keys.ports import Corrupt, Denied, Misconfigured, Unavailable, Unclear, VaultFailure, WrappedKey

pytestmark = pytest.mark.servers


def verdict(failure: VaultFailure) -> tuple[type[VaultFailure], str]:
    """Return what a failure is judged by."""
    return type(failure), failure.raw.partition(" ")[0]


async def test_removed(bench: Bench) -> None:
    """A token taken out is an outage that counts, never a denial, and serves at once when it is put back (law 5)."""
    vault = bench.open()
    wrapped = await bench.wrap(vault)
    for _ in range(2):
        bench.tokens.remove(TOKEN)
        gone = [await refused(vault.unwrap(wrapped, CONTEXT)), await refused(bench.open().describe(bench.uri))]
        bench.tokens.put_back(TOKEN)

        assert [(Unavailable, True)] * 2 == [(type(each), each.counts) for each in gone]
        assert PAYLOAD == await vault.unwrap(wrapped, CONTEXT)


async def test_back_unseen(bench: Bench) -> None:
    """A token taken out and put back between two calls is not taken for an empty one."""
    vault = bench.open()
    wrapped = await bench.wrap(vault)
    bench.tokens.remove(TOKEN)
    await refused(vault.describe(bench.uri.replace(bench.label, "missing")))
    bench.tokens.put_back(TOKEN)

    assert PAYLOAD == await vault.unwrap(wrapped, CONTEXT)


async def test_destroyed_by_its_owner(bench: Bench) -> None:
    """A key that its owner destroyed is denied, and not exactly; one version of it, exactly."""
    vault = bench.open()
    wrapped = await bench.wrap(vault)
    bench.make(b"\x02")
    newer = await vault.wrap(bench.uri, PAYLOAD, CONTEXT)
    bench.tokens.destroy(TOKEN, bench.label, b"\x01")
    version = await refused(vault.unwrap(wrapped, CONTEXT))
    bench.tokens.destroy(TOKEN, bench.label)
    key = await refused(vault.unwrap(newer, CONTEXT))

    assert (Denied, "version-gone", True) == (*verdict(version), version.exact)
    assert (Denied, "key-gone", False) == (*verdict(key), key.exact)


async def test_half_switched_off(bench: Bench) -> None:
    """A key that may encrypt alone is described as disabled and denies to unwrap, exactly; the other way it unwraps."""
    vault = bench.open()
    wrapped = await bench.wrap(vault)
    bench.tokens.switch(TOKEN, bench.label, False, [Attribute.DECRYPT])
    failure = await refused(vault.unwrap(wrapped, CONTEXT))

    assert (Denied, "key-switched-off", True) == (*verdict(failure), failure.exact)
    assert not (await vault.describe(bench.uri)).enabled
    bench.tokens.switch(TOKEN, bench.label, True)
    bench.tokens.switch(TOKEN, bench.label, False, [Attribute.ENCRYPT])
    assert PAYLOAD == await vault.unwrap(wrapped, CONTEXT)
    assert (Denied, "key-switched-off") == verdict(await refused(vault.wrap(bench.uri, PAYLOAD, CONTEXT)))


async def test_fault_of_the_bytes_unproven(bench: Bench) -> None:
    """Where the token has one answer for bad bytes and for trouble, and the key can prove nothing, it is unclear."""
    vault = bench.open()
    wrapped = await bench.wrap(vault)
    assert (Corrupt, "decrypt-failed") == verdict(await refused(vault.unwrap(wrapped, b"elsewhere")))
    bench.tokens.switch(TOKEN, bench.label, False, [Attribute.ENCRYPT])

    assert (Unclear, "cause-untold") == verdict(await refused(vault.unwrap(wrapped, b"elsewhere")))


async def test_bytes(bench: Bench) -> None:
    """What is stored is 0x01, nonce, ciphertext and tag of AES-256-GCM, and any other implementation reads it."""
    value, vault = secrets.token_bytes(32), bench.open()
    with bench.tokens.opened(TOKEN) as session:
        session.create_object(
            {
                Attribute.CLASS: ObjectClass.SECRET_KEY,
                Attribute.KEY_TYPE: KeyType.AES,
                Attribute.TOKEN: True,
                Attribute.LABEL: bench.label,
                Attribute.ID: b"\x0a\xbc",
                Attribute.ENCRYPT: True,
                Attribute.DECRYPT: True,
                Attribute.VALUE: value,
            }
        )
    wrapped = await vault.wrap(bench.uri, PAYLOAD, CONTEXT)
    stored = wrapped.ciphertext
    nonce = secrets.token_bytes(12)
    own = WrappedKey(
        bench.uri, "abc", wrapped.identity, b"\x01" + nonce + AESGCM(value).encrypt(nonce, PAYLOAD, CONTEXT)
    )

    assert ("abc", 93, 1) == (wrapped.version, len(stored), stored[0])
    assert PAYLOAD == AESGCM(value).decrypt(stored[1:13], stored[13:], CONTEXT)
    assert PAYLOAD == await vault.unwrap(own, CONTEXT)


UNFIT: dict[str, tuple[list[dict[str, Any]], str]] = {
    "no id": ([{"id": b""}], "key-ambiguous"),
    "zero": ([{"id": b"\0"}], "key-ambiguous"),
    "twice": ([{"id": b"\x01"}, {"id": b"\0\x01"}], "key-ambiguous"),
    "short": ([{"id": b"\x01", "bits": 128}], "key-wrong-type"),
}


@pytest.mark.parametrize("name", UNFIT)
async def test_unfit(name: str, bench: Bench) -> None:
    """Keys that can't be told apart by their CKA_ID, and keys of another size, are our own mistake."""
    keys, reason = UNFIT[name]
    with bench.tokens.opened(TOKEN) as session:
        for key in keys:
            bits = key.get("bits", 256)
            session.generate_key(KeyType.AES, bits, id=key["id"], label=bench.label, store=True)

    assert (Misconfigured, reason) == verdict(await refused(bench.open().describe(bench.uri)))


async def test_end_date(bench: Bench) -> None:
    """A key's end date is told, it expires when that day is over; one that the token can't read spoils nothing."""
    vault, told = bench.open(), []
    for private in (False, True):
        bench.make(bytes([1 + private]), PRIVATE=private)
        bench.tokens.change(TOKEN, bench.label, Attribute.END_DATE, datetime(2030, 1, 31, tzinfo=UTC))
        told.append((await vault.describe(bench.uri)).expires)

    assert [datetime(2030, 2, 1, tzinfo=UTC), None] == told


async def test_wrong_pin(bench: Bench) -> None:
    """A refused PIN is never tried again until its file holds another one."""
    vault = bench.open()
    bench.make()
    right = bench.pin_file.read_text()
    bench.pin_file.write_text("000000\n")
    failures = [await refused(vault.describe(bench.uri)) for _ in range(2)]
    # The token would take it now: if it is asked, the second failure is none.
    with bench.tokens.opened(TOKEN) as session:
        session.set_pin(right.strip(), "000000")
    try:
        failures.append(await refused(vault.describe(bench.uri)))
    finally:
        library = pkcs11.lib(str(bench.tokens.module))
        library.reinitialize()
        with_wrong = library.get_token(token_label=TOKEN).open(rw=True, user_pin="000000")
        with_wrong.set_pin("000000", right.strip())
        with_wrong.close()
    bench.pin_file.write_text(right)

    assert [(Misconfigured, "pin-refused 0xa0")] * 3 == [(type(each), each.raw) for each in failures]
    assert "1" == (await vault.describe(bench.uri)).version


@pytest.mark.parametrize("other", [{"serial": "0000"}, {"slot": 3}])
async def test_another_token(other: dict[str, Any], bench: Bench) -> None:
    """A token of the same label with another serial number, or in another slot, is not taken."""
    assert (Misconfigured, "token-other") == verdict(await refused(bench.open(**other).describe(bench.uri)))


async def test_own_token(bench: Bench) -> None:
    """The serial number and the slot of the settings are those of the token that is taken."""
    bench.make()
    with bench.tokens.opened(TOKEN) as session:
        serial, slot = session.token.serial.decode(), session.token.slot.slot_id

    assert "1" == (await bench.open(serial=serial, slot=slot).describe(bench.uri)).version


async def test_not_set_up(bench: Bench) -> None:
    """A token that the settings do not name is our own mistake."""
    failure = await refused(bench.open().describe("pkcs11:token=third;object=root"))

    assert (Misconfigured, "token-not-set-up") == verdict(failure)


async def test_same_key_elsewhere(bench: Bench) -> None:
    """Keys of one label on two tokens are two keys."""
    vault = bench.open()
    bench.make()
    bench.tokens.make(OTHER, bench.label, b"\x01")
    one, other = [await vault.describe(uri) for uri in (bench.uri, bench.uri.replace(TOKEN, OTHER))]

    assert one.identity != other.identity


async def test_availability_key(bench: Bench) -> None:
    """An availability key can't be read out of its token, is not recoverable, and leaves nothing but its name."""
    vault = bench.open()
    await vault.create(bench.uri)
    with bench.tokens.opened(TOKEN) as session:
        (key,) = session.get_objects({Attribute.LABEL: bench.label, Attribute.CLASS: ObjectClass.SECRET_KEY})
        flags = [key[each] for each in (Attribute.SENSITIVE, Attribute.EXTRACTABLE, Attribute.NEVER_EXTRACTABLE)]
    described = await vault.describe(bench.uri)
    destroyed = await vault.destroy(bench.uri)

    assert [True, False, True] == flags
    assert not described.recoverable
    assert destroyed.is_final
    assert [] == list(bench.tokens.ids(TOKEN, bench.label))


async def test_root_key_is_not_ours(bench: Bench) -> None:
    """A root key is neither found as an availability key nor destroyed as one."""
    vault = bench.open()
    wrapped = await bench.wrap(vault)

    assert (Misconfigured, "key-not-ours") == verdict(await refused(vault.create(bench.uri)))
    assert (Misconfigured, "key-not-ours") == verdict(await refused(vault.destroy(bench.uri)))
    assert PAYLOAD == await vault.unwrap(wrapped, CONTEXT)


@pytest.mark.parametrize("crashed", ["create", "destroy"])
async def test_crash_between_record_and_key(crashed: str, bench: Bench) -> None:
    """A creation or a destruction that broke off half-way is finished by its repeat."""
    vault = bench.open()
    await vault.create(bench.uri)
    if crashed == "create":
        bench.tokens.destroy(TOKEN, bench.label)
        assert "1" == (await vault.create(bench.uri)).version
        return
    with bench.tokens.opened(TOKEN) as session:
        _record(session, bench.label, b"destroyed")
    assert (Denied, "key-destroyed") == verdict(await refused(vault.describe(bench.uri)))
    await vault.destroy(bench.uri)

    assert [] == list(bench.tokens.ids(TOKEN, bench.label))


def _record(session: Any, label: str, value: bytes) -> None:
    session.create_object(
        {
            Attribute.CLASS: ObjectClass.DATA,
            Attribute.TOKEN: True,
            Attribute.LABEL: label,
            Attribute.APPLICATION: "twinlock",
            Attribute.VALUE: value,
        }
    )
