"""What the custodian offers, operation by operation, on memory vaults and a real database."""

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import delete, event, select, update
from sqlalchemy.exc import OperationalError

from schemas.identifiers import AvailabilityMode, PolicyState, Slot
from twinlock.custody.errors import GenerationGone, KeyRefused
from twinlock.custody.port import ContainerRef, Custodian, PolicyKeyOrder, service
from twinlock.keys.errors import DecryptionError, KeyWipedError
from twinlock.keys.ports import Denied, Misconfigured, Outcome, Unavailable
from twinlock.store.tables.content import container_keys
from twinlock.store.tables.custody import policy_key_copies

if TYPE_CHECKING:
    from tests.integration.custody.conftest import Custody


async def test_port(custody: "Custody") -> None:
    """The local custodian fills the port."""
    custodian: Custodian = custody.custodian

    assert custodian is custody.custodian


async def test_open_gives_what_was_made(custody: "Custody") -> None:
    """A container key that is opened is the one that was made, for at most 60 s."""
    policy = await custody.policy("p")
    ref = await custody.container(policy)
    opened = await custody.open(ref)
    async with custody.store.read() as reader:
        row = await reader.row(select(container_keys))

    assert row is not None
    assert row.commitment == opened.key.commitment()
    assert (60.0, False) == (opened.keep_seconds, opened.by_availability_key)


async def test_three_copies(custody: "Custody") -> None:
    """A policy key has three copies, each verified by unwrapping, and the key itself is gone."""
    for uri in custody.roots("p"):
        await custody.vault.create_root_key(uri)
    order = PolicyKeyOrder("acme", "p", 1, AvailabilityMode.STANDARD, custody.roots("p"))
    made = await custody.custodian.make_policy_key(order, custody.asker())
    again = await custody.custodian.make_policy_key(order, custody.asker())

    assert [Slot.A, Slot.B, Slot.AVAILABILITY] == [slot for slot, _ in made.copies]
    assert list(custody.roots("p")) == [root.uri for root in made.roots]
    assert [copy.identity for _, copy in made.copies[:2]] == [root.identity for root in made.roots]
    assert (4, 2) == (custody.asked("p"), custody.availability_asked("p"))
    assert made.commitment != again.commitment
    assert dict(made.copies)[Slot.AVAILABILITY].identity == dict(again.copies)[Slot.AVAILABILITY].identity


async def test_mode_none_has_no_availability_key(custody: "Custody") -> None:
    """In mode `none` the provider's vault is never asked for anything."""
    await custody.policy("p", AvailabilityMode.NONE)

    assert {} == custody.provider.calls


async def test_law_1_commitment_is_audited(custody: "Custody") -> None:
    """Law 1: the commitment of a policy key generation is in the audit log when the key is handed over."""
    for uri in custody.roots("p"):
        await custody.vault.create_root_key(uri)
    order = PolicyKeyOrder("acme", "p", 1, AvailabilityMode.STANDARD, custody.roots("p"))
    made = await custody.custodian.make_policy_key(order, custody.asker())
    _, entry = await custody.audit()

    assert ("policy-key-made", made.commitment.hex()) == (entry.kind, entry.detail["commitment"])


@pytest.mark.parametrize("answer", [Outcome.DENIED, Outcome.UNAVAILABLE, Outcome.MISCONFIGURED])
async def test_make_fails_as_the_vault_did(custody: "Custody", answer: Outcome) -> None:
    """Making a policy key raises the vault's own failure, and the audit log says which key gave it."""
    kinds = {Outcome.DENIED: Denied, Outcome.UNAVAILABLE: Unavailable, Outcome.MISCONFIGURED: Misconfigured}
    for uri in custody.roots("p"):
        await custody.vault.create_root_key(uri)
    custody.vault.hold(custody.roots("p")[1], answer)
    order = PolicyKeyOrder("acme", "p", 1, AvailabilityMode.STANDARD, custody.roots("p"))

    with pytest.raises(kinds[answer]):
        await custody.custodian.make_policy_key(order, custody.asker())
    assert [("policy-key-not-made", custody.roots("p")[1], answer.value)] == [
        (row.kind, row.detail["uri"], row.detail["outcome"]) for row in (await custody.audit())[1:]
    ]


async def test_law_15_ordered_before_any_vault(custody: "Custody") -> None:
    """Law 15: a policy key is made only after its order is in the audit log; without that no vault is called."""
    for uri in custody.roots("p"):
        await custody.vault.create_root_key(uri)
    order = PolicyKeyOrder("acme", "p", 1, AvailabilityMode.STANDARD, custody.roots("p"))

    def _refuse(_c: object, _cursor: object, statement: str, *_rest: object) -> None:
        if "INSERT INTO audit_entries" in statement:
            raise OperationalError(statement, {}, OSError("the disk is full"))

    event.listen(custody.store.engine.sync_engine, "before_cursor_execute", _refuse)
    with pytest.raises(OperationalError):
        await custody.custodian.make_policy_key(order, custody.asker())

    assert {} == custody.provider.calls
    assert {} == custody.vault.calls


async def test_probe(custody: "Custody") -> None:
    """A probe does the round trip and tells the outcome, with a description where there is one, and is audited."""
    good, gone = custody.roots("p")
    await custody.vault.create_root_key(good)
    custody.vault.hold(good, Outcome.OK)
    found = await custody.custodian.probe(good, custody.asker())
    missing = await custody.custodian.probe(gone, custody.asker())
    unknown = await custody.custodian.probe("nowhere://vault/key", custody.asker())

    assert (Outcome.OK, "") == (found.outcome, found.detail)
    assert found.description is not None
    assert found.description.enabled
    assert (Outcome.MISCONFIGURED, None) == (missing.outcome, missing.description)
    assert Outcome.MISCONFIGURED == unknown.outcome
    assert ["ok", "misconfigured", "misconfigured"] == [row.detail["outcome"] for row in await custody.audit()]


async def test_probe_of_a_disabled_key(custody: "Custody") -> None:
    """A disabled key is described and denied."""
    uri, _ = custody.roots("p")
    await custody.vault.create_root_key(uri)
    await custody.vault.disable(uri)
    found = await custody.custodian.probe(uri, custody.asker())

    assert Outcome.DENIED == found.outcome
    assert found.description is not None
    assert not found.description.enabled


async def test_gone_generation(custody: "Custody") -> None:
    """A generation that was destroyed meanwhile says so, and asks no vault."""
    ref = await custody.container(await custody.policy("p"))
    async with custody.store.begin(custody.asker().cause) as unit:
        await unit.execute(delete(container_keys))
    before = custody.asked("p")

    with pytest.raises(GenerationGone):
        await custody.open(ref)
    with pytest.raises(GenerationGone):
        await custody.custodian.rewrap_containers([ref], "p", custody.asker())
    assert before == custody.asked("p")


async def test_law_2_moved_container_key(custody: "Custody") -> None:
    """Law 2: a wrapped container key in another container's row fails with the one error, audited as damaged."""
    policy = await custody.policy("p")
    first, second = await custody.container(policy, "one"), await custody.container(policy, "two")
    async with custody.store.begin(custody.asker().cause) as unit:
        row = await unit.row(select(container_keys).where(container_keys.c.container_id == "one"))
        assert row is not None
        await unit.execute(
            update(container_keys)
            .where(container_keys.c.container_id == "two")
            .values(wrapped=row.wrapped, commitment=row.commitment)
        )

    with pytest.raises(DecryptionError):
        await custody.open(second)
    assert (await custody.open(first)).key is not None
    with pytest.raises(DecryptionError):
        await custody.custodian.rewrap_containers([first, second], policy, custody.asker())
    assert {"container-key-damaged", "containers-rewrap-damaged"} <= {row.kind for row in await custody.audit()}


async def test_law_2_moved_policy_key_copy(custody: "Custody") -> None:
    """Law 2: copies moved from another policy's rows are corrupt in their slots, and open nothing."""
    ref = await custody.container(await custody.policy("p"))
    await custody.policy("q")
    async with custody.store.begin(custody.asker().cause) as unit:
        for slot in (Slot.A, Slot.B):
            copies = policy_key_copies.c
            row = await unit.row(select(policy_key_copies).where(copies.policy_id == "q", copies.slot == slot))
            assert row is not None
            await unit.execute(
                update(policy_key_copies)
                .where(copies.policy_id == "p", copies.slot == slot)
                .values(uri=row.uri, key_version=row.key_version, identity=row.identity, ciphertext=row.ciphertext)
            )

    with pytest.raises(KeyRefused, match="does not match"):
        await custody.open(ref)
    assert {"a": ("corrupt", "corrupt"), "b": ("corrupt", "corrupt")} == await custody.verdicts("p")


async def test_rewrap_containers(custody: "Custody") -> None:
    """Rewrapping brings the same container keys under another policy's key, in the order asked for."""
    p, q = await custody.policy("p"), await custody.policy("q")
    refs = [await custody.container(p, name) for name in ("one", "two", "three")]
    before = [(await custody.open(ref)).key.commitment() for ref in refs]
    wrapped = await custody.custodian.rewrap_containers(refs, q, custody.asker(service("assign")))
    async with custody.store.begin(custody.asker().cause) as unit:
        for each in wrapped:
            await unit.execute(
                update(container_keys)
                .where(container_keys.c.container_id == each.ref.container_id)
                .values(policy_id=each.policy_id, wrapped=each.wrapped)
            )
    custody.hold(p, Outcome.DENIED, Outcome.DENIED)
    custody.restart()

    assert refs == [each.ref for each in wrapped]
    assert before == [(await custody.open(ref)).key.commitment() for ref in refs]
    assert [] == list(await custody.custodian.rewrap_containers([], q, custody.asker()))


async def test_refresh_after_rotation(custody: "Custody") -> None:
    """A refresh wraps under the new version of a rotated key and keeps every other copy as it was."""
    policy = await custody.policy("p")
    async with custody.store.read() as reader:
        old = {row.slot: row for row in await reader.rows(select(policy_key_copies))}
    await custody.vault.rotate(custody.roots(policy)[0])
    made = await custody.custodian.rewrap_policy_key(policy, custody.asker())
    new = dict(made.copies)

    assert set(old) == {slot.value for slot in new}
    assert old["a"].key_version != new[Slot.A].version
    assert old["a"].identity == new[Slot.A].identity
    assert (old["b"].ciphertext, old["availability"].ciphertext) == (
        new[Slot.B].ciphertext,
        new[Slot.AVAILABILITY].ciphertext,
    )
    assert made.roots[0].version == new[Slot.A].version


async def test_refresh_without_change(custody: "Custody") -> None:
    """A refresh with nothing new returns the copies that are stored, and wraps nothing."""
    policy = await custody.policy("p")
    wraps = custody.vault.calls["wrap", custody.roots(policy)[0]]
    made = await custody.custodian.rewrap_policy_key(policy, custody.asker())
    async with custody.store.read() as reader:
        stored = {row.slot: row.ciphertext for row in await reader.rows(select(policy_key_copies))}

    assert stored == {slot.value: copy.ciphertext for slot, copy in made.copies}
    assert wraps == custody.vault.calls["wrap", custody.roots(policy)[0]]


async def test_law_1_remade_key(custody: "Custody") -> None:
    """Law 1: a root key that was deleted and made again under its name is refused by a refresh."""
    policy = await custody.policy("p")
    await custody.vault.delete(custody.roots(policy)[0])
    await custody.vault.create_root_key(custody.roots(policy)[0])

    with pytest.raises(KeyRefused, match="made again") as refused:
        await custody.custodian.rewrap_policy_key(policy, custody.asker())
    assert "recovery" in refused.value.hint
    assert "policy-key-rewrap-refused" == (await custody.audit())[-1].kind


async def test_law_1_new_version_needs_the_pinned_one(custody: "Custody") -> None:
    """Law 1: a new version of a key is not taken while the pinned version does not unwrap."""
    policy = await custody.policy("p")
    a, _ = custody.roots(policy)
    await custody.vault.rotate(a)
    custody.vault.script(a, Outcome.UNCLEAR)

    with pytest.raises(KeyRefused, match="does not unwrap"):
        await custody.custodian.rewrap_policy_key(policy, custody.asker())


async def test_refused_while_not_active(custody: "Custody") -> None:
    """A policy that is revoked, purging or purged refuses every operation, and no vault is asked."""
    p, q = await custody.policy("p"), await custody.policy("q")
    ref = await custody.container(p)
    await custody.open(ref)
    asked = custody.asked(p)
    for state in (PolicyState.REVOKED, PolicyState.PURGING, PolicyState.PURGED):
        await custody.set_state(p, state)
        for work in (
            custody.open(ref),
            custody.open(ref, service("index")),
            custody.custodian.make_container_keys([ContainerRef("acme", "new", 1)], p, custody.asker()),
            custody.custodian.rewrap_containers([ref], q, custody.asker()),
            custody.custodian.rewrap_policy_key(p, custody.asker()),
        ):
            with pytest.raises(KeyRefused, match="revoked, purging or purged"):
                await work

    assert asked == custody.asked(p)
    assert [] == [line for line in custody.custodian.cached() if line.policy_id == p]


async def test_one_call_for_many(custody: "Custody") -> None:
    """Many containers of one policy cost one vault call while its key is cached."""
    policy = await custody.policy("p")
    refs = [await custody.container(policy, f"box{number}") for number in range(5)]
    before = custody.asked(policy)
    for ref in refs:
        await custody.open(ref)

    assert before + 1 == custody.asked(policy)


async def test_close_wipes(custody: "Custody") -> None:
    """Closing the custodian leaves no policy key behind."""
    ref = await custody.container(await custody.policy("p"))
    opened = await custody.open(ref)
    custody.custodian.close()
    opened.key.wipe()

    assert [] == list(custody.custodian.cached())
    with pytest.raises(KeyWipedError):
        opened.key.expose()
