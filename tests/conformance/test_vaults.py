"""Every vault adapter keeps the port's promises; an adapter joins by one more entry in `ADAPTERS`."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum, auto
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twinlock.clock import ManualClock
from twinlock.keys.ports import (
    AvailabilityVault,
    Corrupt,
    Denied,
    KeyDescription,
    Misconfigured,
    Unavailable,
    VaultFailure,
    WrappedKey,
)
from twinlock.vaults.administration import (
    AdministrationError,
    BadKeyUri,
    KeyAdministration,
    KeyExists,
    KeyStatus,
    NoSuchKey,
    WrongKeyState,
)
from twinlock.vaults.local import LocalVault
from twinlock.vaults.memory import MemoryVault

URI, OTHER, ELSEWHERE = "local://contoso-1/root", "local://contoso-1/other", "local://contoso-2/root"
PAYLOAD, CONTEXT = bytes(range(64)), b"a policy key's place"


class Ability(Enum):
    """What not every vault can do."""

    CONTEXT = auto()  # wrapping binds the context, beside the digest inside the payload
    ROOT_KEYS = auto()  # the keys under test are root keys, which can be made again under an old name
    AVAILABILITY = auto()  # the keys under test are availability keys


@dataclass(frozen=True)
class Subject:
    """Hold an adapter under test, and how it comes by a key."""

    vault: Any
    make: Callable[[str], Coroutine[Any, Any, KeyDescription]]

    async def wrap(self, uri: str = URI) -> WrappedKey:
        """Make a key and wrap the payload under it."""
        await self.make(uri)
        wrapped: WrappedKey = await self.vault.wrap(uri, PAYLOAD, CONTEXT)
        return wrapped


Make = Callable[[Path, ManualClock, Callable[[], rsa.RSAPrivateKey]], Subject]


def local(root: Path, clock: ManualClock, generate: Callable[[], rsa.RSAPrivateKey]) -> Subject:
    """Bring the local vault with root keys."""
    vault = LocalVault(root, clock, generate)
    return Subject(vault, vault.create_root_key)


def local_availability(root: Path, clock: ManualClock, generate: Callable[[], rsa.RSAPrivateKey]) -> Subject:
    """Bring the local vault with availability keys."""
    vault = LocalVault(root, clock, generate)
    return Subject(vault, vault.create)


def memory(root: Path, clock: ManualClock, generate: Callable[[], rsa.RSAPrivateKey]) -> Subject:
    """Bring the memory vault with root keys."""
    vault = MemoryVault(clock)
    return Subject(vault, vault.create_root_key)


def memory_availability(root: Path, clock: ManualClock, generate: Callable[[], rsa.RSAPrivateKey]) -> Subject:
    """Bring the memory vault with availability keys."""
    vault = MemoryVault(clock)
    return Subject(vault, vault.create)


ADAPTERS: dict[str, tuple[Make, set[Ability]]] = {
    "local": (local, {Ability.ROOT_KEYS}),
    "local-availability": (local_availability, {Ability.AVAILABILITY, Ability.CONTEXT}),
    "memory": (memory, {Ability.ROOT_KEYS, Ability.CONTEXT}),
    "memory-availability": (memory_availability, {Ability.AVAILABILITY, Ability.CONTEXT}),
}


def having(ability: Ability) -> pytest.MarkDecorator:
    """Run a test on the adapters that declare an ability."""
    names = [name for name, (_, abilities) in ADAPTERS.items() if ability in abilities]
    return pytest.mark.parametrize("subject", names, indirect=True)


@pytest.fixture(scope="session")
def rsa_keys() -> Sequence[rsa.RSAPrivateKey]:
    """Make a few small keys once: RSA-3072 for every test would take minutes."""
    return [rsa.generate_private_key(65537, 2048) for _ in range(4)]


@pytest.fixture(params=ADAPTERS)
def subject(
    request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock, rsa_keys: Sequence[rsa.RSAPrivateKey]
) -> Subject:
    """Bring each adapter in turn."""
    make, _ = ADAPTERS[request.param]
    pool: Iterator[rsa.RSAPrivateKey] = iter(rsa_keys)
    return make(tmp_path / "vaults", clock, lambda: next(pool))


def fuzz(examples: int) -> settings:
    """Bound a property test; the vault may stay between examples, which only read from it."""
    return settings(max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def flip(data: bytes, bit: int) -> bytes:
    """Flip one bit, counted from the start and round the end."""
    position, mask = (bit // 8) % len(data), 1 << bit % 8
    return data[:position] + bytes([data[position] ^ mask]) + data[position + 1 :]


async def refused(call: Coroutine[Any, Any, object]) -> VaultFailure:
    """Return the failure with which a call ends."""
    with pytest.raises(VaultFailure) as caught:
        await call
    return caught.value


def test_ports(subject: Subject) -> None:
    """An adapter has the port's methods and, where it can administer keys, the optional ability."""
    vault: AvailabilityVault = subject.vault

    assert isinstance(vault, KeyAdministration)


async def test_round_trip(subject: Subject) -> None:
    """What is wrapped unwraps to the same 64 bytes, and the answer says which key and version did it."""
    wrapped = await subject.wrap()
    key = await subject.vault.describe(URI)

    assert (key.uri, key.version, key.identity) == (wrapped.uri, wrapped.version, wrapped.identity)
    assert PAYLOAD not in wrapped.ciphertext
    assert PAYLOAD == await subject.vault.unwrap(wrapped, CONTEXT)


async def test_description(subject: Subject) -> None:
    """A new key is enabled, is version 1 and does not expire, and its description is the same each time."""
    made = await subject.make(URI)

    assert ("1", True, None) == (made.version, made.enabled, made.expires)
    assert made == await subject.vault.describe(URI)
    assert made == await subject.vault.describe(URI, "1")


async def test_two_keys(subject: Subject) -> None:
    """Two keys differ in identity and fingerprint."""
    one, other = await subject.make(URI), await subject.make(ELSEWHERE)

    assert one.identity != other.identity
    assert one.fingerprint != other.fingerprint


@having(Ability.CONTEXT)
async def test_context(subject: Subject) -> None:
    """A vault that has associated data opens nothing for another context (law 2)."""
    wrapped = await subject.wrap()

    assert isinstance(await refused(subject.vault.unwrap(wrapped, b"elsewhere")), Corrupt)


@pytest.mark.parametrize("target", [OTHER, ELSEWHERE])
async def test_moved(subject: Subject, target: str) -> None:
    """Bytes moved to another key's row are corrupt, and under the old identity denied (law 2)."""
    wrapped = await subject.wrap()
    key = await subject.make(target)
    moved = replace(wrapped, uri=target, identity=key.identity)

    assert isinstance(await refused(subject.vault.unwrap(moved, CONTEXT)), Corrupt)
    assert isinstance(await refused(subject.vault.unwrap(replace(wrapped, uri=target), CONTEXT)), Denied)


@fuzz(25)
@given(bit=st.integers(0, 8 * 600))
async def test_flipped_bit(subject: Subject, bit: int) -> None:
    """One flipped bit makes the bytes corrupt (law 2)."""
    wrapped = await wrap_once(subject)
    damaged = replace(wrapped, ciphertext=flip(wrapped.ciphertext, bit))

    assert isinstance(await refused(subject.vault.unwrap(damaged, CONTEXT)), Corrupt)


@fuzz(25)
@given(size=st.integers(0, 600), filler=st.binary(max_size=2))
async def test_wrong_length(subject: Subject, size: int, filler: bytes) -> None:
    """Truncated and lengthened bytes are corrupt."""
    wrapped = await wrap_once(subject)
    damaged = (wrapped.ciphertext[:size] + filler) if size < len(wrapped.ciphertext) else wrapped.ciphertext + b"\0"

    if damaged != wrapped.ciphertext:
        failure = await refused(subject.vault.unwrap(replace(wrapped, ciphertext=damaged), CONTEXT))

        assert isinstance(failure, Corrupt)


async def wrap_once(subject: Subject) -> WrappedKey:
    """Wrap under the key that an earlier example made."""
    try:
        await subject.vault.describe(URI)
    except Misconfigured:
        await subject.make(URI)
    wrapped: WrappedKey = await subject.vault.wrap(URI, PAYLOAD, CONTEXT)
    return wrapped


async def test_corrupt_says_nothing_more(subject: Subject) -> None:
    """A moved, a truncated and a damaged wrapped key fail with the same words (law 2)."""
    wrapped = await subject.wrap()
    key = await subject.make(OTHER)
    wrong = [
        replace(wrapped, uri=OTHER, identity=key.identity),
        replace(wrapped, ciphertext=wrapped.ciphertext[:-1]),
        replace(wrapped, ciphertext=flip(wrapped.ciphertext, 77)),
        replace(wrapped, ciphertext=b""),
    ]
    answers = [await refused(subject.vault.unwrap(each, CONTEXT)) for each in wrong]

    assert {(str(answers[0]), answers[0].raw)} == {(str(answer), answer.raw) for answer in answers}


async def test_rotate(subject: Subject) -> None:
    """After a rotation the new version wraps, both unwrap, and only the fingerprint is new."""
    old = await subject.wrap()
    first = await subject.vault.describe(URI)
    state = await subject.vault.rotate(URI)
    new = await subject.vault.wrap(URI, PAYLOAD, CONTEXT)
    second = await subject.vault.describe(URI)

    assert ("2", ("1", "2")) == (state.version, state.versions)
    assert ("1", "2") == (old.version, new.version)
    assert first.identity == second.identity
    assert first.fingerprint != second.fingerprint
    assert first == await subject.vault.describe(URI, "1")
    assert [PAYLOAD] * 2 == [await subject.vault.unwrap(each, CONTEXT) for each in (old, new)]


async def test_swapped_version(subject: Subject) -> None:
    """Bytes of one version are corrupt under another, and a version that never was is denied (law 2)."""
    wrapped = await subject.wrap()
    await subject.vault.rotate(URI)

    assert isinstance(await refused(subject.vault.unwrap(replace(wrapped, version="2"), CONTEXT)), Corrupt)
    assert isinstance(await refused(subject.vault.unwrap(replace(wrapped, version="3"), CONTEXT)), Denied)
    assert isinstance(await refused(subject.vault.describe(URI, "3")), Denied)


async def test_disable(subject: Subject) -> None:
    """A disabled key refuses use with an exact denial, is still described, and works again once enabled."""
    wrapped = await subject.wrap()
    state = await subject.vault.disable(URI)
    calls = (subject.vault.unwrap(wrapped, CONTEXT), subject.vault.wrap(URI, PAYLOAD, CONTEXT))
    failures = [await refused(call) for call in calls]

    assert state.state is KeyStatus.DISABLED
    assert [(Denied, True, False)] * 2 == [(type(each), each.exact, each.counts) for each in failures]
    assert not (await subject.vault.describe(URI)).enabled
    assert KeyStatus.ENABLED is (await subject.vault.enable(URI)).state
    assert PAYLOAD == await subject.vault.unwrap(wrapped, CONTEXT)


async def test_delete_and_restore(subject: Subject) -> None:
    """A soft-deleted key denies everything, exactly, and comes back as it was."""
    wrapped = await subject.wrap()
    before = await subject.vault.describe(URI)
    state = await subject.vault.delete(URI)
    calls = (
        subject.vault.unwrap(wrapped, CONTEXT),
        subject.vault.wrap(URI, PAYLOAD, CONTEXT),
        subject.vault.describe(URI),
    )
    failures = [await refused(call) for call in calls]

    assert state == await subject.vault.state(URI)
    assert state.state is KeyStatus.DELETED
    assert [(Denied, True)] * 3 == [(type(each), each.exact) for each in failures]
    assert KeyStatus.ENABLED is (await subject.vault.restore(URI)).state
    assert before == await subject.vault.describe(URI)
    assert PAYLOAD == await subject.vault.unwrap(wrapped, CONTEXT)


async def test_restore_keeps_disabled(subject: Subject) -> None:
    """A key that was disabled when it was deleted comes back disabled."""
    await subject.make(URI)
    for change in (subject.vault.disable, subject.vault.delete):
        await change(URI)

    assert KeyStatus.DISABLED is (await subject.vault.restore(URI)).state


@having(Ability.ROOT_KEYS)
async def test_made_again(subject: Subject) -> None:
    """A key deleted and made again under its name has a new identity and never serves the old bytes (law 1)."""
    wrapped = await subject.wrap()
    await subject.vault.delete(URI)
    again = await subject.make(URI)
    failure = await refused(subject.vault.unwrap(wrapped, CONTEXT))
    forged = await refused(subject.vault.unwrap(replace(wrapped, identity=again.identity), CONTEXT))

    assert again.identity != wrapped.identity
    assert (Denied, True) == (type(failure), failure.exact)
    assert isinstance(forged, Corrupt)


@having(Ability.ROOT_KEYS)
async def test_archived_stays_archived(subject: Subject) -> None:
    """A restore brings back the most recently deleted key, never one that another took the name from."""
    await subject.make(URI)
    await subject.vault.delete(URI)
    again = await subject.make(URI)
    with pytest.raises(WrongKeyState, match="live key"):
        await subject.vault.restore(URI)
    await subject.vault.delete(URI)
    await subject.vault.restore(URI)

    assert again == await subject.vault.describe(URI)


@having(Ability.ROOT_KEYS)
async def test_name_taken(subject: Subject) -> None:
    """A live key, disabled or not, keeps its name."""
    made = await subject.make(URI)
    with pytest.raises(KeyExists):
        await subject.make(URI)
    await subject.vault.disable(URI)
    with pytest.raises(KeyExists):
        await subject.make(URI)

    assert made.identity == (await subject.vault.describe(URI)).identity


@having(Ability.ROOT_KEYS)
async def test_expiry(subject: Subject, clock: ManualClock) -> None:
    """An expired key is described with its date and unwraps, and wraps no more."""
    expires = clock.now() + timedelta(days=1)
    await subject.vault.create_root_key(URI, expires)
    wrapped = await subject.vault.wrap(URI, PAYLOAD, CONTEXT)
    clock.advance(86400)
    failure = await refused(subject.vault.wrap(URI, PAYLOAD, CONTEXT))

    assert isinstance(failure, Denied)
    assert expires == (await subject.vault.describe(URI)).expires
    assert PAYLOAD == await subject.vault.unwrap(wrapped, CONTEXT)


@having(Ability.ROOT_KEYS)
async def test_expiry_without_zone(subject: Subject, clock: ManualClock) -> None:
    """An expiry without a time zone is refused before a key is made."""
    with pytest.raises(AdministrationError, match="time zone"):
        await subject.vault.create_root_key(URI, clock.now().replace(tzinfo=None))

    assert isinstance(await refused(subject.vault.describe(URI)), Misconfigured)


async def test_outage(subject: Subject) -> None:
    """A vault in outage is unavailable, which counts as evidence; other vaults answer, and it comes back (law 5)."""
    wrapped, elsewhere = await subject.wrap(), await subject.wrap(ELSEWHERE)
    await subject.vault.set_outage("contoso-1", True)
    calls = (
        subject.vault.unwrap(wrapped, CONTEXT),
        subject.vault.wrap(URI, PAYLOAD, CONTEXT),
        subject.vault.describe(URI),
        subject.vault.create("local://contoso-1/new"),
        subject.vault.destroy(URI),
    )
    failures = [await refused(call) for call in calls]

    assert [(Unavailable, True)] * 5 == [(type(each), each.counts) for each in failures]
    assert [True, False] == [await subject.vault.outage(name) for name in ("contoso-1", "contoso-2")]
    assert PAYLOAD == await subject.vault.unwrap(elsewhere, CONTEXT)
    await subject.vault.set_outage("contoso-1", False)
    assert PAYLOAD == await subject.vault.unwrap(wrapped, CONTEXT)


async def test_administration_during_outage(subject: Subject) -> None:
    """A key is disabled while its vault is in outage, and denied once the vault answers."""
    wrapped = await subject.wrap()
    await subject.vault.set_outage("contoso-1", True)
    await subject.vault.disable(URI)
    during = await refused(subject.vault.unwrap(wrapped, CONTEXT))
    await subject.vault.set_outage("contoso-1", False)

    assert isinstance(during, Unavailable)
    assert isinstance(await refused(subject.vault.unwrap(wrapped, CONTEXT)), Denied)


@pytest.mark.parametrize("uri", ["local://contoso-1/missing", "local://missing/root"])
async def test_unknown(subject: Subject, uri: str) -> None:
    """A name that never was is our own mistake, not the customer's act."""
    await subject.make(URI)

    assert isinstance(await refused(subject.vault.describe(uri)), Misconfigured)
    assert isinstance(await refused(subject.vault.wrap(uri, PAYLOAD, CONTEXT)), Misconfigured)
    for change in ("disable", "enable", "delete", "restore", "rotate", "state"):
        with pytest.raises(NoSuchKey):
            await getattr(subject.vault, change)(uri)


async def test_gone(subject: Subject) -> None:
    """A wrapped key whose key is not there any more is denied, but not exactly: it takes a second look."""
    wrapped = await subject.wrap()
    failure = await refused(subject.vault.unwrap(replace(wrapped, uri="local://contoso-1/gone"), CONTEXT))

    assert (Denied, False) == (type(failure), failure.exact)


async def test_unknown_vault_outage(subject: Subject) -> None:
    """A vault that does not exist can't be cut off, and is not."""
    with pytest.raises(NoSuchKey):
        await subject.vault.set_outage("missing", True)

    assert not await subject.vault.outage("missing")


@pytest.mark.parametrize("uri", ["", "root", "local://", "local://a", "local://A/b", "local://../b", "local://a/b/c"])
async def test_bad_uri(subject: Subject, uri: str) -> None:
    """A text that is no key URI is our own mistake at the port, and a clear refusal to an administrator."""
    assert isinstance(await refused(subject.vault.describe(uri)), Misconfigured)
    with pytest.raises(BadKeyUri):
        await subject.vault.state(uri)


@pytest.mark.parametrize("size", [0, 63, 65, 4096])
async def test_payload_size(subject: Subject, size: int) -> None:
    """A payload of any size but 64 bytes is refused."""
    await subject.make(URI)

    assert isinstance(await refused(subject.vault.wrap(URI, bytes(size), CONTEXT)), Misconfigured)


URIS = st.one_of(st.text(max_size=80), st.sampled_from([URI, OTHER]), st.text(max_size=20).map("local://c/{}".format))


@fuzz(40)
@given(uri=URIS, text=st.text(max_size=40), data=st.binary(max_size=600), context=st.binary(max_size=100))
async def test_nothing_else_escapes(subject: Subject, uri: str, text: str, data: bytes, context: bytes) -> None:
    """Whatever is asked, a failure is one of the five classes, and it names its rules and its key."""
    identity = (await wrap_once(subject)).identity
    for call in (
        subject.vault.describe(uri, text),
        subject.vault.wrap(uri, data, context),
        subject.vault.unwrap(WrappedKey(uri, text, text, data), context),
        subject.vault.unwrap(WrappedKey(URI, "1", identity, data), context),
    ):
        failure = await failure_of(call)

        assert failure is None or (failure.uri in (uri, URI) and failure.classifier and failure.raw)


async def failure_of(call: Coroutine[Any, Any, object]) -> VaultFailure | None:
    """Return the failure with which a call ends, or None."""
    try:
        await call
    except VaultFailure as failure:
        return failure
    return None


async def over_and_over(*calls: Callable[[], Coroutine[Any, Any, object]]) -> None:
    """Repeat calls until a deadline that has passed already falls into one of them."""
    async with asyncio.timeout(0):
        while True:
            for call in calls:
                await call()
            await asyncio.sleep(0)


async def test_cancelled(subject: Subject) -> None:
    """A call that runs into its deadline leaves no task behind, and the vault answers the next one."""
    wrapped = await subject.wrap()
    before = asyncio.all_tasks()
    with pytest.raises(TimeoutError):
        await over_and_over(lambda: subject.vault.unwrap(wrapped, CONTEXT))

    assert before == asyncio.all_tasks()
    assert PAYLOAD == await subject.vault.unwrap(wrapped, CONTEXT)


async def test_cancelled_change(subject: Subject) -> None:
    """A cancelled change is made wholly or not at all, and never after the cancellation."""
    await subject.make(URI)
    with pytest.raises(TimeoutError):
        await over_and_over(lambda: subject.vault.rotate(URI))
    state = await subject.vault.state(URI)
    await subject.vault.disable(URI)

    assert list(state.versions) == [str(number + 1) for number in range(len(state.versions))]
    assert replace(state, state=KeyStatus.DISABLED) == await subject.vault.state(URI)


async def test_no_secret_in_sight(subject: Subject) -> None:
    """No repr of a vault, of an answer or of a failure shows a payload."""
    wrapped = await subject.wrap()
    failure = await refused(subject.vault.unwrap(replace(wrapped, ciphertext=PAYLOAD), CONTEXT))
    shown = f"{subject.vault!r} {wrapped!r} {failure!r} {failure.__dict__}"

    assert repr(PAYLOAD)[2:40] not in shown
    assert repr(wrapped.ciphertext)[2:40] not in shown


@having(Ability.AVAILABILITY)
async def test_create_is_idempotent(subject: Subject) -> None:
    """A repeated creation finds the key that the first one made."""
    wrapped = await subject.wrap()

    assert await subject.vault.create(URI) == await subject.vault.describe(URI)
    assert PAYLOAD == await subject.vault.unwrap(wrapped, CONTEXT)


@having(Ability.AVAILABILITY)
async def test_destroy(subject: Subject) -> None:
    """A destroyed key denies everything for ever, creation and restoring included; destroying it again is no error."""
    wrapped = await subject.wrap()
    for _ in range(2):
        await subject.vault.destroy(URI)
    calls = (subject.vault.unwrap(wrapped, CONTEXT), subject.vault.describe(URI), subject.vault.create(URI))
    failures = [await refused(call) for call in calls]
    with pytest.raises(WrongKeyState):
        await subject.vault.restore(URI)

    assert [(Denied, True)] * 3 == [(type(each), each.exact) for each in failures]
    assert KeyStatus.DESTROYED is (await subject.vault.state(URI)).state


@having(Ability.AVAILABILITY)
async def test_destroy_deleted(subject: Subject) -> None:
    """A soft-deleted availability key is destroyed like any other, and can't be restored."""
    await subject.make(URI)
    await subject.vault.delete(URI)
    await subject.vault.destroy(URI)
    with pytest.raises(WrongKeyState):
        await subject.vault.restore(URI)


@having(Ability.AVAILABILITY)
async def test_destroy_unknown(subject: Subject) -> None:
    """Destroying what never was is no error, and leaves nothing that was not there."""
    for uri in ("local://missing/key", URI):
        await subject.vault.destroy(uri)

        assert isinstance(await refused(subject.vault.describe(uri)), Misconfigured)


@having(Ability.ROOT_KEYS)
async def test_root_key_is_not_ours(subject: Subject) -> None:
    """A root key is neither found as an availability key nor destroyed as one."""
    wrapped = await subject.wrap()

    assert isinstance(await refused(subject.vault.create(URI)), Misconfigured)
    assert isinstance(await refused(subject.vault.destroy(URI)), Misconfigured)
    assert PAYLOAD == await subject.vault.unwrap(wrapped, CONTEXT)
