"""What every `Custodian` does, whether it is a function call or another process: one suite for both."""

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import delete, select, update

from schemas.identifiers import AvailabilityMode, Slot
from schemas.requests import PolicyRequested, RefreshRequested
from twinlock.custody.errors import GenerationGone, KeyNotYet, KeyRefused
from twinlock.custody.lifecycle.naming import made_by
from twinlock.custody.port import ContainerRef, Custodian, PolicyKeyOrder
from twinlock.keys.errors import DecryptionError
from twinlock.keys.ports import Corrupt, Denied, Misconfigured, Outcome, Unavailable, Unclear, VaultFailure
from twinlock.store.tables.content import container_keys
from twinlock.store.tables.custody import policies
from twinlock.store.tables.tenants import tenants

if TYPE_CHECKING:
    from tests.integration.custody.conftest import Custody
    from tests.integration.custody.rpc.conftest import Afar

ROOTS = ("memory://east/new", "memory://west/new")


class Either:
    """Hand out the custodian that a caller has: the local one, or one in another process."""

    def __init__(self, afar: "Afar", far: bool) -> None:
        self._afar = afar
        self._far = far

    def of(self, caller: str) -> Custodian:
        """Return this caller's custodian."""
        return self._afar.caller(caller) if self._far else self._afar.custody.custodian


@pytest.fixture(params=["local", "remote"])
def either(afar: "Afar", request: pytest.FixtureRequest) -> Either:
    """Return both custodians in turn."""
    return Either(afar, request.param == "remote")


async def _order(afar: "Afar", mode: AvailabilityMode = AvailabilityMode.STANDARD) -> PolicyKeyOrder:
    for uri in ROOTS:
        await afar.custody.vault.create_root_key(uri)
    work = await afar.request(PolicyRequested)
    return PolicyKeyOrder("acme", made_by(work.source, work.id), 1, mode, ROOTS)


async def test_open(custody: "Custody", afar: "Afar", either: Either) -> None:
    """A container key is the one that was stored, may be kept for 60 s, and was opened by a root key."""
    ref = await custody.container(await custody.policy("p"))
    opened = await either.of("operator").open_container_key(ref, afar.user())
    async with custody.store.read() as reader:
        stored = await reader.scalar(select(container_keys.c.commitment))

    assert stored == opened.key.commitment()
    assert (ref, 60.0, False) == (opened.ref, opened.keep_seconds, opened.by_availability_key)


async def test_make_container_keys(custody: "Custody", afar: "Afar", either: Either) -> None:
    """Keys come in order and all different, wrapped under the policy's newest key, and none of them in the clear."""
    policy = await custody.policy("p")
    asked = [replace(await custody.container(policy, name), generation=2) for name in ("one", "two", "three")]
    work = await afar.request()
    made = await either.of("mailbox_reencryptor").make_container_keys(asked[::-1], "p", afar.working("move", work))

    assert [(ref, "p", 1) for ref in asked[::-1]] == [(k.ref, k.policy_id, k.policy_key_generation) for k in made]
    assert 3 == len({key.commitment for key in made})


async def test_make_no_keys(afar: "Afar", either: Either) -> None:
    """No keys need nobody."""
    assert [] == list(await either.of("mailbox_reencryptor").make_container_keys([], "p", afar.working("move", None)))


async def test_rewrap_containers(custody: "Custody", afar: "Afar", either: Either) -> None:
    """Container keys come back in order, wrapped under the target and of the same commitment."""
    await custody.policy("p")
    await custody.policy("q")
    refs = [await custody.container("p", name) for name in ("one", "two", "three")]
    work = await afar.job("assign", "dep_assigner", policy_id="q")
    rewrapped = await either.of("dep_assigner").rewrap_containers(refs[::-1], "q", afar.working("assign", work))

    assert [(ref, "q") for ref in refs[::-1]] == [(key.ref, key.policy_id) for key in rewrapped]


async def test_rewrap_nothing(afar: "Afar", either: Either) -> None:
    """No containers need nobody."""
    assert [] == list(await either.of("dep_assigner").rewrap_containers([], "q", afar.working("assign", None)))


@pytest.mark.parametrize("mode", [AvailabilityMode.STANDARD, AvailabilityMode.NONE])
async def test_make_policy_key(afar: "Afar", either: Either, mode: AvailabilityMode) -> None:
    """A policy key comes as its copies, with the versions that wrapped; in mode `none` there are two."""
    order = await _order(afar, mode)
    work = afar.working("create-policy", await afar.request(PolicyRequested, "r2"))
    order = PolicyKeyOrder("acme", made_by("urn:test:publisher", "r2"), 1, mode, ROOTS)
    made = await either.of("dep_assigner").make_policy_key(order, work)

    slots = [Slot.A, Slot.B, Slot.AVAILABILITY] if mode is AvailabilityMode.STANDARD else [Slot.A, Slot.B]
    assert slots == [slot for slot, _ in made.copies]
    assert list(ROOTS) == [root.uri for root in made.roots]
    assert all(copy.ciphertext for _, copy in made.copies)


async def test_rewrap_policy_key(custody: "Custody", afar: "Afar", either: Either) -> None:
    """A policy key comes back under the newest version of a root key that was rotated."""
    await custody.policy("p")
    await custody.vault.rotate(custody.roots("p")[0])
    work = await afar.request(RefreshRequested)
    made = await either.of("dep_assigner").rewrap_policy_key("p", afar.working("refresh", work))

    assert ["2", "1"] == [dict(made.copies)[slot].version for slot in (Slot.A, Slot.B)]


async def test_probe(custody: "Custody", afar: "Afar", either: Either) -> None:
    """A probe tells outcome and description; a failure is an outcome."""
    good, gone = custody.roots("p")
    await custody.vault.create_root_key(good)
    custodian = either.of("operator")
    found = await custodian.probe(good, afar.working("probe", None))
    missing = await custodian.probe(gone, afar.working("probe", None))

    assert (Outcome.OK, good) == (found.outcome, found.uri)
    assert found.description is not None
    assert (Outcome.MISCONFIGURED, None) == (missing.outcome, missing.description)


async def test_refused(custody: "Custody", afar: "Afar", either: Either) -> None:
    """What the decision table refuses is refused, with policy and hint."""
    ref = await custody.container(await custody.policy("p"))
    custody.hold("p", Outcome.DENIED, Outcome.DENIED)
    with pytest.raises(KeyRefused, match="refuses") as refused:
        await either.of("operator").open_container_key(ref, afar.user())

    assert KeyRefused is type(refused.value)
    assert "p" == refused.value.policy
    assert refused.value.hint


async def test_not_yet(custody: "Custody", afar: "Afar", either: Either) -> None:
    """Without evidence a call waits until its deadline, and may be asked again."""
    ref = await custody.container(await custody.policy("p"))
    custody.hold("p", Outcome.UNAVAILABLE, Outcome.UNAVAILABLE)
    with pytest.raises(KeyNotYet) as refused:
        await either.of("operator").open_container_key(ref, afar.user(0.9))

    assert (KeyNotYet, "p") == (type(refused.value), refused.value.policy)


async def test_gone(custody: "Custody", afar: "Afar", either: Either) -> None:
    """A destroyed generation is gone."""
    ref = await custody.container(await custody.policy("p"))
    async with custody.store.begin(afar.user().cause) as unit:
        await unit.execute(delete(container_keys))

    with pytest.raises(GenerationGone):
        await either.of("operator").open_container_key(ref, afar.user())


async def test_damaged(custody: "Custody", afar: "Afar", either: Either) -> None:
    """A damaged container key does not decrypt, and nothing more is said."""
    ref = await custody.container(await custody.policy("p"))
    async with custody.store.begin(afar.user().cause) as unit:
        await unit.execute(update(container_keys).values(wrapped=bytes(93)))

    with pytest.raises(DecryptionError):
        await either.of("operator").open_container_key(ref, afar.user())


@pytest.mark.parametrize("kind", [Unavailable, Denied, Unclear, Misconfigured, Corrupt])
async def test_vault_failures(afar: "Afar", either: Either, kind: type[VaultFailure]) -> None:
    """Each of the five failures arises as the vault gave it, down to what it really said."""
    order = await _order(afar)
    given = kind(
        "said so", uri=ROOTS[1], raw="503 Busy", request_id="id-7", classifier="memory/1", exact=True, counts=True
    )
    afar.custody.vault.hold(ROOTS[1], given)
    asker = afar.working("create-policy", await afar.request(PolicyRequested, "r3"))
    order = PolicyKeyOrder("acme", made_by("urn:test:publisher", "r3"), 1, order.mode, ROOTS)
    with pytest.raises(kind) as raised:
        await either.of("dep_assigner").make_policy_key(order, asker)

    assert vars(given) == vars(raised.value)


async def test_first_key(custody: "Custody", afar: "Afar", either: Either) -> None:
    """A command makes the first key of a new container under the provider's policy."""
    await custody.policy("p")
    async with custody.store.begin(afar.user().cause) as unit:
        await unit.execute(update(tenants).values(name="provider"))
        await unit.execute(update(policies).values(name="service"))
    ref = ContainerRef("acme", "fresh", 1)
    (made,) = await either.of("operator").make_container_keys([ref], "p", afar.working("add-mailbox", None))

    assert (ref, "p") == (made.ref, made.policy_id)
