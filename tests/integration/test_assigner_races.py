"""The DEP assigner against others who change the same rows: late writers, requests with one id, damaged keys."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import insert, select, update

from schemas.envelope import enclose, serialise
from schemas.event import Event
from schemas.identifiers import MailboxKind, RequestOutcome
from schemas.names import DEP_ASSIGNER, MAILBOX_REENCRYPTOR
from schemas.requests import AssignmentRequested, MoveRequested, RefreshRequested
from twinlock.content.mailboxes import NewMailbox
from twinlock.custody.errors import CustodianSilent
from twinlock.custody.port import USER, Asker, ContainerRef, WrappedContainerKey
from twinlock.store.tables.content import container_keys, containers
from twinlock.store.tables.custody import policies, policy_keys, root_keys
from twinlock.store.tables.tenants import tenants
from twinlock.store.tables.work import assignment_outcomes, requests
from twinlock.store.unit import Cause
from workers import wakeups

if TYPE_CHECKING:
    from tests.integration.conftest import Pump, World

CAUSE = Cause("test")
ASKER = Asker(USER, CAUSE)
ONE, TWO = "m1@acme.example", "m2@acme.example"


async def with_roots(world: "World", policy: str) -> None:
    """Give a policy the root keys that a refresh reads."""
    async with world.store.begin(CAUSE) as unit:
        for slot in ("a", "b"):
            key = {"policy_id": policy, "slot": slot, "uri": f"memory://{slot}/key"}
            await unit.execute(insert(root_keys).values(**key, identity="x", version="1"))


async def generations(world: "World", policy: str) -> list[int]:
    """Return the generations of a policy's key that are left."""
    async with world.store.read() as reader:
        query = select(policy_keys.c.generation).where(policy_keys.c.policy_id == policy)
        return [row.generation for row in await reader.rows(query.order_by(policy_keys.c.generation))]


async def wraps(world: "World") -> list[tuple[str, int]]:
    """Return what every container key is wrapped by."""
    async with world.store.read() as reader:
        query = select(container_keys.c.policy_id, container_keys.c.policy_key_generation)
        return sorted(tuple(row) for row in await reader.rows(query))


async def test_mailbox_added_while_its_policy_is_rolled(
    world: "World", pump: "Pump", monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mailbox key that was made under the old policy key, and stored as the roll ends, is brought along as well."""
    await with_roots(world, "service-policy")
    await world.mailbox(ONE, b"mail")
    early = await world.custodian.make_container_keys([ContainerRef("acme", "late", 1)], "service-policy", ASKER)
    await pump.publisher.request(RefreshRequested(policy="service", new_policy_key=True))
    await pump.step()
    rewrap = world.custodian.rewrap_containers

    async def _then_add(*args: Any) -> Any:
        monkeypatch.undo()
        answer = await rewrap(*args)
        with monkeypatch.context() as patch:
            patch.setattr(world.custodian, "make_container_keys", _given(early))
            patch.setattr("twinlock.content.mailboxes.new_id", lambda: "late")
            await world.mailboxes.add(NewMailbox(TWO, "acme", MailboxKind.USER, licensed=True), ASKER)
        return answer

    monkeypatch.setattr(world.custodian, "rewrap_containers", _then_add)
    await settled(world, pump)

    assert {("service-policy", 2)} == set(await wraps(world))
    assert [2] == await generations(world, "service-policy")


async def settled(world: "World", pump: "Pump") -> None:
    """Run until what was put off had its turn again."""
    for _ in range(3):
        await pump.run()
        world.clock.advance(301)
        for worker in (DEP_ASSIGNER, MAILBOX_REENCRYPTOR):
            await wakeups.reconcile(world.store, worker, 900)
    await pump.run()


def _given(made: Sequence[WrappedContainerKey]) -> Any:
    async def _make(*_args: object) -> Sequence[WrappedContainerKey]:
        return made

    return _make


async def test_one_id_from_two_sources(world: "World", pump: "Pump") -> None:
    """Two requests that share an id but not their source are two jobs: each is carried out and answered."""
    await world.mailbox(ONE, b"mail")
    await world.mailbox(TWO, b"mail")
    for source, mailbox in (("urn:one", ONE), ("urn:two", TWO)):
        await pump.publisher.publish(_body(AssignmentRequested(policy="policy-p", mailboxes=(mailbox,)), source))
    await pump.run()
    async with world.store.read() as reader:
        answered = await reader.rows(select(requests.c.source, requests.c.outcome).order_by(requests.c.source))

    assert [("urn:one", "done"), ("urn:two", "done")] == [tuple(row) for row in answered]
    assert ["policy-p", "policy-p"] == [(await world.mailboxes.show(box)).policy for box in (ONE, TWO)]


def _body(event: Event, source: str) -> bytes:
    time = datetime(2026, 1, 1, tzinfo=UTC)
    return serialise(enclose(event, event_id="1", source=source, time=time, correlation=None, causation=None))


async def test_revert_of_another_tenants_mailbox(world: "World", pump: "Pump") -> None:
    """A revert that names a tenant takes no mailbox of another tenant."""
    await world.mailbox(ONE, b"mail")
    await pump.ask(AssignmentRequested(policy="policy-p", mailboxes=(ONE,)))
    async with world.store.begin(CAUSE) as unit:
        await unit.execute(insert(tenants).values(id="t3", name="globex", trial=False, created_at=world.clock.now()))
    outcome, said, _ = await pump.ask(AssignmentRequested(policy="service", tenant="globex", mailboxes=(ONE,)))

    assert (RequestOutcome.REFUSED, 1) == (outcome, said["rejected"])
    assert "policy-p" == (await world.mailboxes.show(ONE)).policy
    outcome, _, _ = await pump.ask(AssignmentRequested(policy="service", tenant="acme", mailboxes=(ONE,)))

    assert RequestOutcome.DONE == outcome


async def damage(world: "World", mailbox: str, wrapped: bytes) -> bytes:
    """Replace the wrapped key of a mailbox and return what it was."""
    key = container_keys.c
    box = select(containers.c.id).where(containers.c.name == mailbox).scalar_subquery()
    async with world.store.begin(CAUSE) as unit:
        before = await unit.scalar(select(key.wrapped).where(key.container_id == box))
        await unit.execute(update(container_keys).where(key.container_id == box).values(wrapped=wrapped))
    return bytes(before)


async def test_damaged_key_in_an_assignment(world: "World", pump: "Pump") -> None:
    """A mailbox whose key does not decrypt is rejected by name; the others of its assignment are assigned."""
    await world.mailbox(ONE, b"mail")
    await world.mailbox(TWO, b"mail")
    await damage(world, ONE, bytes(93))
    outcome, said, _ = await pump.ask(AssignmentRequested(policy="policy-p", mailboxes=(ONE, TWO)))
    async with world.store.read() as reader:
        rejected = await reader.row(select(assignment_outcomes).where(assignment_outcomes.c.outcome == "rejected"))

    assert (RequestOutcome.DONE, 1, 1) == (outcome, said["assigned"], said["rejected"])
    assert rejected is not None
    assert (ONE, "its key does not decrypt; bring its row back from a backup") == (rejected.container, rejected.reason)
    assert "policy-p" == (await world.mailboxes.show(TWO)).policy


async def test_damaged_key_in_a_roll(world: "World", pump: "Pump") -> None:
    """A roll passes a damaged mailbox key over, keeps the older policy key for it, and ends once it is repaired."""
    await world.mailbox(ONE, b"mail")
    await world.mailbox(TWO, b"mail")
    await with_roots(world, "service-policy")
    was = await damage(world, ONE, bytes(93))
    await pump.publisher.request(RefreshRequested(policy="service", new_policy_key=True))
    await settled(world, pump)

    assert [("service-policy", 1), ("service-policy", 2)] == await wraps(world)
    assert [1, 2] == await generations(world, "service-policy")

    await damage(world, ONE, was)
    await settled(world, pump)

    assert [("service-policy", 2), ("service-policy", 2)] == await wraps(world)
    assert [2] == await generations(world, "service-policy")


async def test_move_in_the_middle_of_a_roll(world: "World", pump: "Pump", monkeypatch: pytest.MonkeyPatch) -> None:
    """A move does not wait for a roll that gets no answer: it is done, and the roll finds nothing left to bring."""
    await world.mailbox(ONE, b"one", b"two")
    await with_roots(world, "service-policy")

    async def _silent(*args: Any) -> Any:
        raise CustodianSilent

    monkeypatch.setattr(world.custodian, "rewrap_containers", _silent)
    await pump.publisher.request(RefreshRequested(policy="service", new_policy_key=True))
    await pump.run()
    rolling = await wraps(world)
    outcome, said, _ = await pump.ask(MoveRequested(mailbox=ONE))

    assert [("service-policy", 1)] == rolling
    assert (RequestOutcome.DONE, {"items": 2}) == (outcome, dict(said))
    assert [("service-policy", 2)] == await wraps(world)
    assert 2 == (await world.mailboxes.show(ONE)).items_encrypted

    await settled(world, pump)

    assert [2] == await generations(world, "service-policy")


async def test_revoked_between_the_halves(world: "World", pump: "Pump", monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy that is revoked while its mailbox is prepared for another one keeps it."""
    await world.mailbox(ONE, b"mail")
    await pump.ask(AssignmentRequested(policy="policy-p", mailboxes=(ONE,)))
    rewrap = world.custodian.rewrap_containers

    async def _then_revoke(*args: Any) -> Any:
        monkeypatch.undo()
        answer = await rewrap(*args)
        async with world.store.begin(CAUSE) as unit:
            await unit.execute(update(policies).where(policies.c.id == "policy-p").values(state="revoked"))
        world.custodian.refusing.add("policy-p")  # as the custodian does from then on
        return answer

    monkeypatch.setattr(world.custodian, "rewrap_containers", _then_revoke)
    outcome, _, _ = await pump.ask(AssignmentRequested(policy="policy-q", mailboxes=(ONE,)))

    assert RequestOutcome.REFUSED == outcome
    assert "policy-p" == (await world.mailboxes.show(ONE)).policy


async def test_generation_goes_while_its_mailbox_is_assigned(
    world: "World", pump: "Pump", monkeypatch: pytest.MonkeyPatch
) -> None:
    """An assignment whose mailbox is re-encrypted to the end, after it was read, starts over and is carried out."""
    await world.mailbox(ONE, b"one", b"two")
    await pump.publisher.request(MoveRequested(mailbox=ONE))
    await pump.step()
    rewrap = world.custodian.rewrap_containers

    async def _after_the_end(*args: Any) -> Any:
        monkeypatch.undo()
        await pump.run()
        return await rewrap(*args)

    monkeypatch.setattr(world.custodian, "rewrap_containers", _after_the_end)
    pump.choose = lambda rows: next((at for at, row in enumerate(rows) if "assignment" in row.type), 0)
    outcome, _, _ = await pump.ask(AssignmentRequested(policy="policy-p", mailboxes=(ONE,)))

    assert RequestOutcome.DONE == outcome
    assert {("policy-p", 1)} == set(await wraps(world))
