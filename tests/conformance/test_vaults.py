"""Every vault adapter keeps the port's promises; an adapter joins by one more entry in `ADAPTERS`."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum, auto
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conformance import azure_subject
from tests.conformance.azure_subject import AzureOwner
from tests.conformance.kms_subject import KmsAvailabilityOwner, KmsOwner
from tests.conformance.openbao_subject import OpenBaoOwner
from tests.conformance.pkcs11_subject import Pkcs11Owner
from tests.servers.softhsm import TOKENS
from twinlock.clock import ManualClock
from twinlock.keys.ports import (
    AvailabilityVault,
    Corrupt,
    Denied,
    KeyDescription,
    Misconfigured,
    Unavailable,
    Vault,
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
from twinlock.vaults.azure.availability import AzureAvailabilityVault
from twinlock.vaults.azure.vault import AzureVault
from twinlock.vaults.openbao.availability import OpenBaoAvailabilityVault
from twinlock.vaults.openbao.vault import AES, OpenBaoVault
from twinlock.vaults.software.local import LocalVault
from twinlock.vaults.software.memory import MemoryVault

PAYLOAD, CONTEXT = bytes(range(64)), b"a policy key's place"


class Ability(Enum):
    """What not every vault can do."""

    CONTEXT = auto()  # wrapping binds the context, beside the digest inside the payload
    OWN = auto()  # the adapter administers its own vault: it makes keys, disables them, and knows expiry dates
    ROOT_KEYS = auto()  # the keys under test are root keys, which can be made again under an old name
    AVAILABILITY = auto()  # the keys under test are availability keys
    ONE_VERSION = auto()  # nobody sees how often a key was rotated
    LINGERS = auto()  # a destroyed key can still be brought back for a while


@dataclass(frozen=True)
class Subject:
    """Hold an adapter under test, who looks after its keys, how it comes by a key, and the names of two vaults."""

    vault: Any
    owner: Any
    make: Callable[[str], Coroutine[Any, Any, KeyDescription]]
    places: tuple[str, str] = ("contoso-1", "contoso-2")
    form: str = "local://{}/{}"
    version: Callable[[int], str] = str
    remembers: bool = True  # a destroyed key is told from one that never was

    @property
    def uri(self) -> str:
        """Name the key that most tests use."""
        return self.key("root")

    @property
    def other(self) -> str:
        """Name another key in the same vault."""
        return self.key("other")

    @property
    def elsewhere(self) -> str:
        """Name a key in the other vault."""
        return self.form.format(self.places[1], "root")

    def key(self, name: str) -> str:
        """Name any key in the first vault."""
        return self.form.format(self.places[0], name)

    async def wrap(self, uri: str = "") -> WrappedKey:
        """Make a key and wrap the payload under it."""
        await self.make(uri or self.uri)
        wrapped: WrappedKey = await self.vault.wrap(uri or self.uri, PAYLOAD, CONTEXT)
        return wrapped


@dataclass(frozen=True)
class Bench:
    """Hold what an adapter may be built from; what is entered into the stack is left after the test."""

    request: pytest.FixtureRequest
    folder: Path
    clock: ManualClock
    stack: AsyncExitStack

    def local(self) -> LocalVault:
        """Build a local vault that does not wait for its keys."""
        pool = iter(self.request.getfixturevalue("rsa_keys"))
        return LocalVault(self.folder / "vaults", self.clock, lambda: next(pool))


async def local(bench: Bench) -> Subject:
    """Bring the local vault with root keys."""
    vault = bench.local()
    return Subject(vault, vault, vault.create_root_key)


async def local_availability(bench: Bench) -> Subject:
    """Bring the local vault with availability keys."""
    vault = bench.local()
    return Subject(vault, vault, vault.create)


async def memory(bench: Bench) -> Subject:
    """Bring the memory vault with root keys."""
    vault = MemoryVault(bench.clock)
    return Subject(vault, vault, vault.create_root_key)


async def memory_availability(bench: Bench) -> Subject:
    """Bring the memory vault with availability keys."""
    vault = MemoryVault(bench.clock)
    return Subject(vault, vault, vault.create)


def openbao(kind: str, adapter: type[OpenBaoVault] = OpenBaoVault) -> Callable[[Bench], Awaitable[Subject]]:
    """Bring two OpenBao servers with root keys of a type, or with availability keys."""

    async def build(bench: Bench) -> Subject:
        owner = OpenBaoOwner(kind, adapter)
        servers = bench.request.getfixturevalue("openbaos")
        places = await owner.open(bench.stack, servers, bench.folder, bench.clock)
        # both servers have a mount of their own, whose name is a part of the place
        first, second = (owner.uri(each, "").removeprefix("bao+http://").removesuffix("/keys/") for each in places)
        keeps = isinstance(owner.vault, OpenBaoAvailabilityVault)
        make = owner.vault.create if isinstance(owner.vault, OpenBaoAvailabilityVault) else owner.create
        return Subject(owner.vault, owner, make, (first, second), "bao+http://{}/keys/{}", remembers=not keeps)

    return build


def aws(owner_of: type[KmsOwner]) -> Callable[[Bench], Awaitable[Subject]]:
    """Bring two regions of AWS KMS."""

    async def build(bench: Bench) -> Subject:
        owner = owner_of(bench.request.getfixturevalue("kms"), bench.folder)
        places = await owner.open(bench.stack, bench.clock)
        return Subject(owner.vault, owner, owner.create, places, owner.form)

    return build


def azure(*, availability: bool) -> Callable[[Bench], Awaitable[Subject]]:
    """Bring two stand-ins for vaults of Azure with root keys, or with availability keys."""

    async def build(bench: Bench) -> Subject:
        kind = AzureAvailabilityVault if availability else AzureVault
        owner, keys = AzureOwner(kind), cycle(bench.request.getfixturevalue("rsa_keys"))
        places = await owner.open(bench.stack, bench.folder, lambda: next(keys))
        make = owner.vault.create if isinstance(owner.vault, AzureAvailabilityVault) else owner.create
        return Subject(owner.vault, owner, make, places, azure_subject.FORM, azure_subject.version, remembers=False)

    return build


def pkcs11(*, availability: bool) -> Callable[[Bench], Awaitable[Subject]]:
    """Bring two SoftHSM tokens with root keys, or with availability keys."""

    async def build(bench: Bench) -> Subject:
        softhsm = bench.request.getfixturevalue("softhsm")
        owner = Pkcs11Owner(softhsm, bench.folder, bench.clock, bench.stack)
        return Subject(owner.vault, owner, owner.vault.create if availability else owner.create, TOKENS, owner.form)

    return build


ADAPTERS: dict[str, tuple[Callable[[Bench], Awaitable[Subject]], set[Ability]]] = {
    "local": (local, {Ability.ROOT_KEYS, Ability.OWN}),
    "local-availability": (local_availability, {Ability.AVAILABILITY, Ability.CONTEXT, Ability.OWN}),
    "memory": (memory, {Ability.ROOT_KEYS, Ability.CONTEXT, Ability.OWN}),
    "memory-availability": (memory_availability, {Ability.AVAILABILITY, Ability.CONTEXT, Ability.OWN}),
    "aws": (aws(KmsOwner), {Ability.ROOT_KEYS, Ability.CONTEXT, Ability.ONE_VERSION}),
    "aws-availability": (
        aws(KmsAvailabilityOwner),
        {Ability.AVAILABILITY, Ability.CONTEXT, Ability.ONE_VERSION, Ability.LINGERS},
    ),
    "azure": (azure(availability=False), {Ability.ROOT_KEYS}),
    "azure-availability": (azure(availability=True), {Ability.AVAILABILITY}),
    "openbao-rsa": (openbao("rsa-2048"), {Ability.ROOT_KEYS}),
    "openbao-aes": (openbao("aes256-gcm96"), {Ability.ROOT_KEYS, Ability.CONTEXT}),
    "openbao-availability": (openbao(AES, OpenBaoAvailabilityVault), {Ability.AVAILABILITY, Ability.CONTEXT}),
    "pkcs11": (pkcs11(availability=False), {Ability.ROOT_KEYS, Ability.CONTEXT}),
    "pkcs11-availability": (pkcs11(availability=True), {Ability.AVAILABILITY, Ability.CONTEXT}),
}
WITH_SERVERS = {
    "aws",
    "aws-availability",
    "openbao-rsa",
    "openbao-aes",
    "openbao-availability",
    "pkcs11",
    "pkcs11-availability",
}


def having(*wanted: Ability, without: Ability | None = None) -> pytest.MarkDecorator:
    """Run a test on the adapters that declare some abilities, and not another one."""
    names = [name for name, (_, has) in ADAPTERS.items() if has.issuperset(wanted) and without not in has]
    return pytest.mark.parametrize("subject", [parameter(name) for name in names], indirect=True)


def parameter(name: str) -> Any:
    """Name an adapter as a parameter of tests."""
    return pytest.param(name, marks=[pytest.mark.servers] if name in WITH_SERVERS else [])


@pytest.fixture(scope="session")
def rsa_keys() -> Sequence[rsa.RSAPrivateKey]:
    """Make a few small keys once: RSA-3072 for every test would take minutes."""
    return [rsa.generate_private_key(65537, 2048) for _ in range(4)]


@pytest.fixture(params=[parameter(name) for name in ADAPTERS])
async def subject(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> AsyncIterator[Subject]:
    """Bring each adapter in turn."""
    make, _ = ADAPTERS[request.param]
    async with AsyncExitStack() as stack:
        yield await make(Bench(request, tmp_path, clock, stack))


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


@having(Ability.OWN)
def test_ports(subject: Subject) -> None:
    """An adapter of a vault of ours has the methods of both ports, and the optional ability."""
    vault: AvailabilityVault = subject.vault

    assert isinstance(vault, KeyAdministration)


@having(Ability.ROOT_KEYS)
def test_port(subject: Subject) -> None:
    """An adapter for root keys has the port's methods; it administers keys only where the vault is ours."""
    vault: Vault = subject.vault

    assert isinstance(vault, KeyAdministration) == (subject.owner is vault)


async def test_round_trip(subject: Subject) -> None:
    """What is wrapped unwraps to the same 64 bytes, and the answer says which key and version did it."""
    wrapped = await subject.wrap()
    key = await subject.vault.describe(subject.uri)

    assert (key.uri, key.version, key.identity) == (wrapped.uri, wrapped.version, wrapped.identity)
    assert PAYLOAD not in wrapped.ciphertext
    assert PAYLOAD == await subject.vault.unwrap(wrapped, CONTEXT)


async def test_description(subject: Subject) -> None:
    """A new key is enabled, is version 1 and does not expire, and its description is the same each time."""
    made = await subject.make(subject.uri)

    assert (subject.version(1), True, None) == (made.version, made.enabled, made.expires)
    assert made == await subject.vault.describe(subject.uri)
    assert made == await subject.vault.describe(subject.uri, subject.version(1))


async def test_two_keys(subject: Subject) -> None:
    """Two keys differ in identity and fingerprint."""
    one, other = await subject.make(subject.uri), await subject.make(subject.elsewhere)

    assert one.identity != other.identity
    assert one.fingerprint != other.fingerprint


@having(Ability.CONTEXT)
async def test_context(subject: Subject) -> None:
    """A vault that has associated data opens nothing for another context (law 2)."""
    wrapped = await subject.wrap()

    assert isinstance(await refused(subject.vault.unwrap(wrapped, b"elsewhere")), Corrupt)


@pytest.mark.parametrize("where", ["other", "elsewhere"])
async def test_moved(subject: Subject, where: str) -> None:
    """Bytes moved to another key's row are corrupt, and under the old identity denied (law 2)."""
    wrapped, target = await subject.wrap(), str(getattr(subject, where))
    key = await subject.make(target)
    moved = replace(wrapped, uri=target, version=key.version, identity=key.identity)

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
        await subject.vault.describe(subject.uri)
    except Misconfigured:
        await subject.make(subject.uri)
    wrapped: WrappedKey = await subject.vault.wrap(subject.uri, PAYLOAD, CONTEXT)
    return wrapped


async def test_corrupt_says_nothing_more(subject: Subject) -> None:
    """A moved, a truncated and a damaged wrapped key fail with the same words (law 2)."""
    wrapped = await subject.wrap()
    key = await subject.make(subject.other)
    wrong = [
        replace(wrapped, uri=subject.other, version=key.version, identity=key.identity),
        replace(wrapped, ciphertext=wrapped.ciphertext[:-1]),
        replace(wrapped, ciphertext=flip(wrapped.ciphertext, 77)),
        replace(wrapped, ciphertext=b""),
    ]
    answers = [await refused(subject.vault.unwrap(each, CONTEXT)) for each in wrong]

    assert {(str(answers[0]), answers[0].raw)} == {(str(answer), answer.raw) for answer in answers}


@having(without=Ability.ONE_VERSION)
async def test_rotate(subject: Subject) -> None:
    """After a rotation the new version wraps, both unwrap, and it is the same key with a new fingerprint (law 1)."""
    old = await subject.wrap()
    first = await subject.vault.describe(subject.uri)
    state = await subject.owner.rotate(subject.uri)
    new = await subject.vault.wrap(subject.uri, PAYLOAD, CONTEXT)
    second = await subject.vault.describe(subject.uri)

    names = tuple(map(subject.version, (1, 2)))
    assert (names[1], names) == (state.version, state.versions)
    assert names == (old.version, new.version)
    assert first.is_key(old.identity)
    # A vendor may name the versions of a key one by one: what counts is that the pinned one is still there.
    assert second.is_key(old.identity) or first == await subject.vault.describe(subject.uri, old.version)
    assert first.fingerprint != second.fingerprint
    assert first == await subject.vault.describe(subject.uri, names[0])
    assert [PAYLOAD] * 2 == [await subject.vault.unwrap(each, CONTEXT) for each in (old, new)]


@having(without=Ability.ONE_VERSION)
async def test_swapped_version(subject: Subject) -> None:
    """Bytes of one version are corrupt under another, and a version that never was is denied (law 2)."""
    wrapped = await subject.wrap()
    await subject.owner.rotate(subject.uri)

    other, never = map(subject.version, (2, 3))
    assert isinstance(await refused(subject.vault.unwrap(replace(wrapped, version=other), CONTEXT)), Corrupt)
    assert isinstance(await refused(subject.vault.unwrap(replace(wrapped, version=never), CONTEXT)), Denied)
    assert isinstance(await refused(subject.vault.describe(subject.uri, never)), Denied)


@having(Ability.OWN)
async def test_disable(subject: Subject) -> None:
    """A disabled key refuses use with an exact denial, is still described, and works again once enabled."""
    wrapped = await subject.wrap()
    state = await subject.vault.disable(subject.uri)
    calls = (subject.vault.unwrap(wrapped, CONTEXT), subject.vault.wrap(subject.uri, PAYLOAD, CONTEXT))
    failures = [await refused(call) for call in calls]

    assert state.state is KeyStatus.DISABLED
    assert [(Denied, True, False)] * 2 == [(type(each), each.exact, each.counts) for each in failures]
    assert not (await subject.vault.describe(subject.uri)).enabled
    assert KeyStatus.ENABLED is (await subject.vault.enable(subject.uri)).state
    assert PAYLOAD == await subject.vault.unwrap(wrapped, CONTEXT)


async def test_delete_and_restore(subject: Subject) -> None:
    """A soft-deleted key denies everything, exactly, and comes back as it was."""
    wrapped = await subject.wrap()
    before = await subject.vault.describe(subject.uri)
    state = await subject.owner.delete(subject.uri)
    calls = (
        subject.vault.unwrap(wrapped, CONTEXT),
        subject.vault.wrap(subject.uri, PAYLOAD, CONTEXT),
        subject.vault.describe(subject.uri),
    )
    failures = [await refused(call) for call in calls]

    assert state == await subject.owner.state(subject.uri)
    assert state.state is KeyStatus.DELETED
    assert [(Denied, True)] * 3 == [(type(each), each.exact) for each in failures]
    assert KeyStatus.ENABLED is (await subject.owner.restore(subject.uri)).state
    assert before == await subject.vault.describe(subject.uri)
    assert PAYLOAD == await subject.vault.unwrap(wrapped, CONTEXT)


@having(Ability.OWN)
async def test_restore_keeps_disabled(subject: Subject) -> None:
    """A key that was disabled when it was deleted comes back disabled."""
    await subject.make(subject.uri)
    for change in (subject.vault.disable, subject.vault.delete):
        await change(subject.uri)

    assert KeyStatus.DISABLED is (await subject.owner.restore(subject.uri)).state


@having(Ability.ROOT_KEYS)
async def test_made_again(subject: Subject) -> None:
    """A key deleted and made again under its name has a new identity and never serves the old bytes (law 1)."""
    wrapped = await subject.wrap()
    await subject.owner.delete(subject.uri)
    again = await subject.make(subject.uri)
    failure = await refused(subject.vault.unwrap(wrapped, CONTEXT))
    forged = await refused(subject.vault.unwrap(replace(wrapped, identity=again.identity), CONTEXT))

    assert not again.is_key(wrapped.identity)
    assert (Denied, True) == (type(failure), failure.exact)
    assert isinstance(forged, Corrupt)


@having(Ability.ROOT_KEYS, Ability.OWN)
async def test_archived_stays_archived(subject: Subject) -> None:
    """A restore brings back the most recently deleted key, never one that another took the name from."""
    await subject.make(subject.uri)
    await subject.owner.delete(subject.uri)
    again = await subject.make(subject.uri)
    with pytest.raises(WrongKeyState, match="live key"):
        await subject.owner.restore(subject.uri)
    await subject.owner.delete(subject.uri)
    await subject.owner.restore(subject.uri)

    assert again == await subject.vault.describe(subject.uri)


@having(Ability.ROOT_KEYS, Ability.OWN)
async def test_name_taken(subject: Subject) -> None:
    """A live key, disabled or not, keeps its name."""
    made = await subject.make(subject.uri)
    with pytest.raises(KeyExists):
        await subject.make(subject.uri)
    await subject.vault.disable(subject.uri)
    with pytest.raises(KeyExists):
        await subject.make(subject.uri)

    assert made.identity == (await subject.vault.describe(subject.uri)).identity


@having(Ability.ROOT_KEYS, Ability.OWN)
async def test_expiry(subject: Subject, clock: ManualClock) -> None:
    """An expired key is described with its date and unwraps, and wraps no more."""
    expires = clock.now() + timedelta(days=1)
    await subject.vault.create_root_key(subject.uri, expires)
    wrapped = await subject.vault.wrap(subject.uri, PAYLOAD, CONTEXT)
    clock.advance(86400)
    failure = await refused(subject.vault.wrap(subject.uri, PAYLOAD, CONTEXT))

    assert isinstance(failure, Denied)
    assert expires == (await subject.vault.describe(subject.uri)).expires
    assert PAYLOAD == await subject.vault.unwrap(wrapped, CONTEXT)


@having(Ability.ROOT_KEYS, Ability.OWN)
async def test_expiry_without_zone(subject: Subject, clock: ManualClock) -> None:
    """An expiry without a time zone is refused before a key is made."""
    with pytest.raises(AdministrationError, match="time zone"):
        await subject.vault.create_root_key(subject.uri, clock.now().replace(tzinfo=None))

    assert isinstance(await refused(subject.vault.describe(subject.uri)), Misconfigured)


async def test_outage(subject: Subject) -> None:
    """A vault in outage is unavailable, which counts as evidence; other vaults answer, and it comes back (law 5)."""
    wrapped, elsewhere = await subject.wrap(), await subject.wrap(subject.elsewhere)
    await subject.owner.set_outage(subject.places[0], True)
    calls = [
        subject.vault.unwrap(wrapped, CONTEXT),
        subject.vault.wrap(subject.uri, PAYLOAD, CONTEXT),
        subject.vault.describe(subject.uri),
    ]
    if subject.owner is subject.vault:
        calls += [subject.vault.create(subject.key("new")), subject.vault.destroy(subject.uri)]
    failures = [await refused(call) for call in calls]

    assert {(Unavailable, True)} == {(type(each), each.counts) for each in failures}
    assert [True, False] == [await subject.owner.outage(place) for place in subject.places]
    assert PAYLOAD == await subject.vault.unwrap(elsewhere, CONTEXT)
    await subject.owner.set_outage(subject.places[0], False)
    assert PAYLOAD == await subject.vault.unwrap(wrapped, CONTEXT)


@having(Ability.OWN)
async def test_delay(subject: Subject, clock: ManualClock) -> None:
    """A slow vault answers rightly, once its delay is over; other vaults are fast, and so is this one later."""
    wrapped, elsewhere = await subject.wrap(), await subject.wrap(subject.elsewhere)
    await subject.owner.set_delay(subject.places[0], 2.5)
    async with asyncio.TaskGroup() as group:
        slow = group.create_task(subject.vault.unwrap(wrapped, CONTEXT))
        assert PAYLOAD == await subject.vault.unwrap(elsewhere, CONTEXT)
        while not clock.sleepers:  # noqa: ASYNC110  # the clock under test has no event for it
            await asyncio.sleep(0)
        clock.advance(2.4)
        await asyncio.sleep(0)
        assert not slow.done()
        clock.advance(0.1)
    await subject.owner.set_delay(subject.places[0], 0)

    assert PAYLOAD == slow.result()
    assert PAYLOAD == await subject.vault.unwrap(wrapped, CONTEXT)


@having(Ability.OWN)
async def test_impossible_delay(subject: Subject) -> None:
    """A delay that is none is refused, and so is one of a vault that is not there."""
    await subject.wrap()
    for seconds in (-1, float("nan"), float("inf")):
        with pytest.raises(AdministrationError, match="that slow"):
            await subject.owner.set_delay(subject.places[0], seconds)
    with pytest.raises(NoSuchKey):
        await subject.owner.set_delay("missing", 1)


@having(Ability.OWN)
async def test_administration_during_outage(subject: Subject) -> None:
    """A key is disabled while its vault is in outage, and denied once the vault answers."""
    wrapped = await subject.wrap()
    await subject.owner.set_outage(subject.places[0], True)
    await subject.vault.disable(subject.uri)
    during = await refused(subject.vault.unwrap(wrapped, CONTEXT))
    await subject.owner.set_outage(subject.places[0], False)

    assert isinstance(during, Unavailable)
    assert isinstance(await refused(subject.vault.unwrap(wrapped, CONTEXT)), Denied)


async def test_unknown(subject: Subject) -> None:
    """A name that never was is our own mistake, not the customer's act."""
    await subject.make(subject.uri)
    uri = subject.key("missing")

    assert isinstance(await refused(subject.vault.describe(uri)), Misconfigured)
    assert isinstance(await refused(subject.vault.wrap(uri, PAYLOAD, CONTEXT)), Misconfigured)


@having(Ability.OWN)
@pytest.mark.parametrize("uri", ["local://contoso-1/missing", "local://missing/root"])
async def test_unknown_to_its_owner(subject: Subject, uri: str) -> None:
    """A name that never was, in a vault or of one, is our own mistake, and nobody administers it."""
    await subject.make(subject.uri)

    assert isinstance(await refused(subject.vault.describe(uri)), Misconfigured)
    assert isinstance(await refused(subject.vault.wrap(uri, PAYLOAD, CONTEXT)), Misconfigured)
    for change in ("disable", "enable", "delete", "restore", "rotate", "state"):
        with pytest.raises(NoSuchKey):
            await getattr(subject.vault, change)(uri)


async def test_gone(subject: Subject) -> None:
    """A wrapped key whose key is not there any more is denied, but not exactly: it takes a second look."""
    wrapped = await subject.wrap()
    failure = await refused(subject.vault.unwrap(replace(wrapped, uri=subject.key("gone")), CONTEXT))

    assert (Denied, False) == (type(failure), failure.exact)


@having(Ability.OWN)
async def test_unknown_vault_outage(subject: Subject) -> None:
    """A vault that does not exist can't be cut off, and is not."""
    with pytest.raises(NoSuchKey):
        await subject.owner.set_outage("missing", True)

    assert not await subject.owner.outage("missing")


@pytest.mark.parametrize("uri", ["", "root", "local://", "local://a", "local://A/b", "local://../b", "local://a/b/c"])
async def test_bad_uri(subject: Subject, uri: str) -> None:
    """A text that is no key URI is our own mistake at the port, and a clear refusal to a person."""
    assert isinstance(await refused(subject.vault.describe(uri)), Misconfigured)
    with pytest.raises(BadKeyUri):
        subject.vault.locate(uri)


@pytest.mark.parametrize("size", [0, 63, 65, 4096])
async def test_payload_size(subject: Subject, size: int) -> None:
    """A payload of any size but 64 bytes is refused."""
    await subject.make(subject.uri)

    assert isinstance(await refused(subject.vault.wrap(subject.uri, bytes(size), CONTEXT)), Misconfigured)


URIS = st.one_of(
    st.text(max_size=80), st.sampled_from(["root", "other"]), st.text(max_size=20).map("local://c/{}".format)
)


@fuzz(40)
@given(uri=URIS, text=st.text(max_size=40), data=st.binary(max_size=600), context=st.binary(max_size=100))
async def test_nothing_else_escapes(subject: Subject, uri: str, text: str, data: bytes, context: bytes) -> None:
    """Whatever is asked, a failure is one of the five classes, and it names its rules and its key."""
    identity = (await wrap_once(subject)).identity
    uri = subject.key(uri) if uri in ("root", "other") else uri
    for call in (
        subject.vault.describe(uri, text),
        subject.vault.wrap(uri, data, context),
        subject.vault.unwrap(WrappedKey(uri, text, text, data), context),
        subject.vault.unwrap(WrappedKey(subject.uri, subject.version(1), identity, data), context),
    ):
        failure = await failure_of(call)

        assert failure is None or (failure.uri in (uri, subject.uri) and failure.classifier and failure.raw)


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


@having(Ability.OWN)
async def test_cancelled_change(subject: Subject) -> None:
    """A cancelled change is made wholly or not at all, and never after the cancellation."""
    await subject.make(subject.uri)
    with pytest.raises(TimeoutError):
        await over_and_over(lambda: subject.owner.rotate(subject.uri))
    state = await subject.owner.state(subject.uri)
    await subject.vault.disable(subject.uri)

    assert list(state.versions) == [str(number + 1) for number in range(len(state.versions))]
    assert replace(state, state=KeyStatus.DISABLED) == await subject.owner.state(subject.uri)


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

    assert await subject.vault.create(subject.uri) == await subject.vault.describe(subject.uri)
    assert PAYLOAD == await subject.vault.unwrap(wrapped, CONTEXT)


@having(Ability.AVAILABILITY, without=Ability.LINGERS)
async def test_destroy(subject: Subject) -> None:
    """A destroyed key denies everything for ever, creation and restoring included; destroying it again is no error."""
    wrapped = await subject.wrap()
    destructions = [await subject.vault.destroy(subject.uri) for _ in range(2)]
    failures = [await refused(subject.vault.unwrap(wrapped, CONTEXT))]
    if subject.remembers:
        calls = (subject.vault.describe(subject.uri), subject.vault.create(subject.uri))
        failures += [await refused(call) for call in calls]
    with pytest.raises(WrongKeyState):
        await subject.owner.restore(subject.uri)

    assert all(each.is_final for each in destructions)
    assert {(Denied, subject.remembers)} == {(type(each), each.exact) for each in failures}
    assert KeyStatus.DESTROYED is (await subject.owner.state(subject.uri)).state


@having(Ability.AVAILABILITY, without=Ability.LINGERS)
async def test_destroy_deleted(subject: Subject) -> None:
    """A soft-deleted availability key is destroyed like any other, and can't be restored."""
    await subject.make(subject.uri)
    await subject.owner.delete(subject.uri)
    await subject.vault.destroy(subject.uri)
    with pytest.raises(WrongKeyState):
        await subject.owner.restore(subject.uri)


@having(Ability.AVAILABILITY)
async def test_destroy_unknown(subject: Subject) -> None:
    """Destroying what never was is no error, and leaves nothing that was not there."""
    for uri in (subject.elsewhere, subject.uri):
        await subject.vault.destroy(uri)

        assert isinstance(await refused(subject.vault.describe(uri)), Misconfigured)


@having(Ability.ROOT_KEYS, Ability.OWN)
async def test_root_key_is_not_ours(subject: Subject) -> None:
    """A root key is neither found as an availability key nor destroyed as one."""
    wrapped = await subject.wrap()

    assert isinstance(await refused(subject.vault.create(subject.uri)), Misconfigured)
    assert isinstance(await refused(subject.vault.destroy(subject.uri)), Misconfigured)
    assert PAYLOAD == await subject.vault.unwrap(wrapped, CONTEXT)
