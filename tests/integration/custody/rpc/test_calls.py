"""Calls to a custodian in another process: asked anew, split, held against what was asked; and who may sign."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from schemas.identifiers import AvailabilityMode, Slot
from twinlock.custody.callers.enrolment import enroll, find_key, keys_of, list_keys, retire
from twinlock.custody.custodian import LocalCustodian
from twinlock.custody.errors import CustodianSilent, KeyNotYet, NotPermitted, WrongAnswer
from twinlock.custody.port import Asker, ContainerRef, MadePolicyKey, OpenedKey, PolicyKeyOrder, WrappedContainerKey
from twinlock.custody.remote.checking import Checks, check_made, check_order
from twinlock.custody.remote.failures import again, told
from twinlock.custody.remote.host import CustodianHost
from twinlock.custody.remote.messages import MOST_REFS, Failed
from twinlock.errors import AlreadyExists, NotFound, TwinlockError
from twinlock.keys.ports import KeyDescription, Outcome, WrappedKey
from twinlock.keys.signing import SigningKey, fingerprint

if TYPE_CHECKING:
    from tests.integration.custody.conftest import Custody
    from tests.integration.custody.rpc.conftest import Afar

ROOTS = ("memory://east/p", "memory://west/p")


async def test_lost_requests_are_sent_anew(custody: "Custody", afar: "Afar") -> None:
    """What was lost on the way is asked for again within the deadline, each time as another request."""
    ref = await custody.container(await custody.policy("p"))
    lost = ["first", "second"]
    afar.wire.deliver = lambda _request, reply: [] if lost and lost.pop() else [reply or b""]
    opened = await afar.caller("operator").open_container_key(ref, afar.user())

    assert ref == opened.ref
    assert 3 == len(set(afar.wire.requests))


async def test_what_waits_for_evidence_is_asked_anew(custody: "Custody", afar: "Afar") -> None:
    """A call that can't be served yet is asked again while its caller waits, and served when the root keys answer."""
    ref = await custody.container(await custody.policy("p"))
    custody.hold("p", Outcome.UNAVAILABLE, Outcome.UNAVAILABLE)

    def _heal(_request: bytes, reply: bytes | None) -> list[bytes]:
        custody.hold("p", Outcome.OK, Outcome.OK)
        return [reply or b""]

    afar.wire.deliver = _heal
    afar.wire.serve = _impatiently(afar)
    opened = await afar.caller("operator").open_container_key(ref, afar.user())

    assert ref == opened.ref
    assert 2 == len(afar.wire.requests)


def _impatiently(afar: "Afar") -> Callable[[bytes], Awaitable[bytes | None]]:
    """Serve with a custodian that gives up waiting for evidence at once."""

    async def _serve(body: bytes) -> bytes | None:
        custody = afar.custody
        local = Impatient(custody.process())
        return await CustodianHost(custody.store, local, afar.key, afar.audit, custody.clock).serve(body)

    return _serve


class Impatient:
    """Leave a custodian a tenth of a second for each call."""

    def __init__(self, inner: LocalCustodian) -> None:
        self._inner = inner
        self.probe = inner.probe
        self.make_policy_key = inner.make_policy_key
        self.rewrap_policy_key = inner.rewrap_policy_key
        self.make_container_keys = inner.make_container_keys
        self.rewrap_containers = inner.rewrap_containers

    async def open_container_key(self, ref: ContainerRef, asker: Asker) -> OpenedKey:
        """Open a container key, or give up."""
        return await self._inner.open_container_key(ref, replace(asker, deadline=0.1))


async def test_silence_may_be_asked_again(custody: "Custody", afar: "Afar") -> None:
    """Silence is trouble that passes, as a vault's, and its hint says where to look."""
    afar.wire.deliver = lambda _request, _reply: []
    with pytest.raises(KeyNotYet) as silent:
        await afar.caller("operator").probe("memory://x/y", afar.working("probe", None, 0.1))

    assert "twinlock worker check tik_cache_refresher" in silent.value.hint


async def test_large_batches_are_split(custody: "Custody", afar: "Afar") -> None:
    """More containers than fit a request are asked for in several, and come back in order."""
    await custody.policy("q")
    ref = await custody.container(await custody.policy("p"))
    job = await afar.job("assign", "dep_assigner", policy_id="q")
    refs = [ref] * (MOST_REFS + 1)
    rewrapped = await afar.caller("dep_assigner").rewrap_containers(refs, "q", afar.working("assign", job))

    assert refs == [key.ref for key in rewrapped]
    assert 2 == len(afar.wire.requests)


async def test_entries_name_the_caller(custody: "Custody", afar: "Afar") -> None:
    """What the custodian writes down about a call names who signed it; in one process nobody signs."""
    ref = await custody.container(await custody.policy("p"))
    await afar.caller("operator").open_container_key(ref, afar.user())
    await custody.open(ref)

    entries = await afar.entries("container-key-opened")
    assert ["operator", None] == [row.detail.get("caller") for row in entries]


async def test_custodians_own_fault(custody: "Custody", afar: "Afar", caplog: pytest.LogCaptureFixture) -> None:
    """Of a fault of the custodian's own nothing is told but that it could not work on it; it may be asked again."""
    assert Failed(kind="fault") == told(RuntimeError("secret"))
    assert CustodianSilent is type(again(Failed(kind="fault")))
    assert CustodianSilent is type(again(Failed(kind="something newer")))
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    "error",
    [NotFound("gone", hint="look"), TwinlockError("bad", hint="mend"), NotPermitted("no", policy="p", hint="ask")],
)
def test_errors_arise_again(error: TwinlockError) -> None:
    """An error for people arises at the caller as it was."""
    raised = again(told(error))

    assert (type(error), vars(error)) == (type(raised), vars(raised))


def test_long_failures_are_cut() -> None:
    """Whatever a vault says, however long, its failure fits into a reply."""
    assert 1000 == len(told(TwinlockError("x" * 5000)).detail)


def _made(**changes: Any) -> MadePolicyKey:
    roots = [KeyDescription(uri, "1", uri, "f", "AES-256", True, None, True) for uri in ROOTS]
    copies = tuple(
        (slot, WrappedKey(uri, "1", uri, b"x")) for slot, uri in zip(Slot, (*ROOTS, "local://a"), strict=True)
    )
    return replace(MadePolicyKey(bytes(32), copies, (roots[0], roots[1])), **changes)


@pytest.mark.parametrize(
    "wrong",
    [
        _made(copies=_made().copies[:2]),
        _made(copies=_made().copies[1:]),
        _made(copies=(*_made().copies, _made().copies[0])),
        _made(copies=(_made().copies[0], (Slot.B, _made().copies[0][1]), _made().copies[2])),
        _made(roots=_made().roots[::-1]),
        _made(commitment=b"short"),
    ],
)
def test_made_policy_key_fits_the_order(wrong: MadePolicyKey) -> None:
    """A policy key that is not wrapped by what was ordered, each once, is refused."""
    order = PolicyKeyOrder("acme", "p", 1, AvailabilityMode.STANDARD, ROOTS)
    check_order(order, _made())

    with pytest.raises(WrongAnswer):
        check_order(order, wrong)


@pytest.mark.parametrize("change", [{"policy_id": "q"}, {"commitment": b"short"}, {"wrapped": b"short"}, None])
def test_made_container_keys_fit(change: dict[str, Any] | None) -> None:
    """What is to be stored of made keys has to be wrapped keys of those containers, in order, under the policy."""
    ref = ContainerRef("acme", "box", 1)
    fine = WrappedContainerKey(ref, "p", 1, bytes(32), bytes(93))
    other = replace(fine, ref=replace(ref, generation=2))
    wrong = [] if change is None else [replace(fine, **change)]

    check_made([ref, other.ref], "p", [fine, other])
    with pytest.raises(WrongAnswer):
        check_made([ref], "p", wrong)
    with pytest.raises(WrongAnswer):
        check_made([ref, other.ref], "p", [other, fine])


async def test_rewrapped_keys_fit(custody: "Custody", afar: "Afar") -> None:
    """Rewrapped keys have to be those asked for, in order, under the target, of the stored commitment."""
    await custody.policy("q")
    refs = [await custody.container(await custody.policy("p")), await custody.container("q", "other")]
    keys = list(await custody.custodian.rewrap_containers(refs, "q", afar.user()))
    checks = Checks(custody.store)
    await checks.rewrapped(refs, "q", keys)

    swapped = [replace(keys[0], ref=refs[1]), replace(keys[1], ref=refs[0])]
    for wrong in (keys[::-1], keys[:1], [replace(key, policy_id="p") for key in keys], swapped[::-1]):
        with pytest.raises(WrongAnswer):
            await checks.rewrapped(refs, "q", wrong)


async def test_refreshed_policy_key_fits(custody: "Custody", afar: "Afar") -> None:
    """A refreshed policy key has to be one of the policy, under its own root keys."""
    await custody.policy("p")
    await custody.policy("q")
    made = await custody.custodian.rewrap_policy_key("p", afar.user())
    checks = Checks(custody.store)
    await checks.rewrapped_policy_key("p", made)

    for policy, wrong in (("q", made), ("p", replace(made, roots=made.roots[::-1]))):
        with pytest.raises(WrongAnswer):
            await checks.rewrapped_policy_key(policy, wrong)


async def test_enrolling(custody: "Custody", afar: "Afar") -> None:
    """A key belongs to one name for good; a name may have several; a repeat changes nothing."""
    first, second = SigningKey.generate(), SigningKey.generate()
    async with custody.store.begin(afar.user().cause) as unit:
        changed = [await enroll(unit, "operator", key.public) for key in (first, second, first)]
        with pytest.raises(AlreadyExists):
            await enroll(unit, "dep_assigner", first.public)
    async with custody.store.read() as reader:
        known = await keys_of(reader, "operator")
        found = await find_key(reader, fingerprint(first.public))

    assert [True, True, False] == changed
    assert {fingerprint(key.public) for key in (first, second, afar.keys["operator"])} == known.keys()
    assert found is not None
    assert ("operator", first.public) == (found.name, found.public_key)


async def test_retiring(custody: "Custody", afar: "Afar") -> None:
    """A retired key is found no more, and can't be enrolled again; only its own name retires it."""
    key = afar.keys["operator"].public
    hexed = fingerprint(key).hex()
    async with custody.store.begin(afar.user().cause) as unit:
        with pytest.raises(NotFound):
            await retire(unit, "dep_assigner", hexed)
        await retire(unit, "operator", hexed)
        with pytest.raises(NotFound):
            await retire(unit, "operator", hexed)
        with pytest.raises(AlreadyExists):
            await enroll(unit, "operator", key)
    async with custody.store.read() as reader:
        assert await find_key(reader, fingerprint(key)) is None
        assert {} == await keys_of(reader, "operator")
        assert [True] == [each.retired for each in await list_keys(reader) if each.name == "operator"]
