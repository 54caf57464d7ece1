"""From what really happens to what `twinlock alerts list` shows, and to its end."""

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import delete, select, update

from events.dead_letters import bury, retry
from events.transport import Message
from schemas.identifiers import Slot
from tests.integration.hearing import listed, looked
from twinlock.custody.audit import sealing
from twinlock.custody.audit.log import AuditEntry, AuditLog
from twinlock.custody.audit.sealing import Sealer
from twinlock.custody.errors import KeyRefused
from twinlock.custody.port import ContainerRef
from twinlock.keys.ports import Outcome
from twinlock.keys.signing import SigningKey
from twinlock.store.tables.custody import audit_entries, policy_key_copies
from twinlock.store.unit import Cause, Store
from twinlock.vaults.directory import VaultDirectory

if TYPE_CHECKING:
    from tests.integration.custody.conftest import Custody

CAUSE = Cause("test")


@pytest.fixture
async def ref(custody: "Custody") -> ContainerRef:
    return await custody.container(await custody.policy("p"))


def states(alerts: list[tuple[str, str | None, str, str]], kind: str) -> list[tuple[str | None, str]]:
    return [(slot, state) for found, slot, state, _ in alerts if found == kind]


async def test_identity_failure(custody: "Custody", ref: ContainerRef, monkeypatch: pytest.MonkeyPatch) -> None:
    """A vault that our settings do not name is our fault: engineering is told of both keys, until they answer."""
    with monkeypatch.context() as gone:
        gone.setattr(VaultDirectory, "of", VaultDirectory({}).of)
        with pytest.raises(KeyRefused, match="our own access"):
            await custody.open(ref)

    alerts = await listed(custody.store)
    assert [("a", "open"), ("b", "open")] == states(alerts, "identity-failure")
    assert {"engineering"} == {audience for *_, audience in alerts}

    custody.restart()
    await custody.custodian.prober.probe_cached()
    custody.clock.advance(60)
    await custody.open(ref)
    await custody.custodian.prober.probe_cached()

    assert {"resolved"} == {state for _, _, state, _ in await looked(custody.store)}


async def test_corrupt_wrap(custody: "Custody", ref: ContainerRef) -> None:
    """A stored copy that does not decrypt is told for its slot, though the other serves, until it is repaired."""
    copy = policy_key_copies.c
    mine = (copy.policy_id == "p", copy.slot == Slot.A)
    async with custody.store.begin(CAUSE) as unit:
        good = await unit.scalar(select(copy.ciphertext).where(*mine))
        await unit.execute(update(policy_key_copies).where(*mine).values(ciphertext=good[:-1] + bytes([good[-1] ^ 1])))
    await custody.open(ref)
    await custody.custodian.prober.probe_cached()
    alerts = await listed(custody.store)

    assert [("a", "open")] == states(alerts, "corrupt-wrap")
    assert [(None, "open")] == states(alerts, "policy-degraded")

    async with custody.store.begin(CAUSE) as unit:
        await unit.execute(update(policy_key_copies).where(*mine).values(ciphertext=good))
    await custody.custodian.prober.probe_cached()

    assert {"resolved"} == {state for _, _, state, _ in await listed(custody.store)}


async def test_denied(custody: "Custody", ref: ContainerRef) -> None:
    """Keys that the customer disabled, and the availability key that then served, are told to the customer."""
    for uri in custody.roots("p"):
        await custody.vault.disable(uri)
    with pytest.raises(KeyRefused):
        await custody.open(ref)
    alerts = await listed(custody.store)

    assert [("a", "open"), ("b", "open")] == states(alerts, "key-revoked")
    assert [(None, "open")] == states(alerts, "policy-unhealthy")

    for uri in custody.roots("p"):
        await custody.vault.enable(uri)
    custody.restart()
    await custody.open(ref)
    await custody.custodian.prober.probe_cached()

    assert {"resolved"} == {state for _, _, state, _ in await listed(custody.store)}


async def test_outage(custody: "Custody", ref: ContainerRef) -> None:
    """An outage that the availability key bridges is told, again each hour, and over when a root key answers."""
    custody.hold("p", Outcome.UNAVAILABLE, Outcome.UNAVAILABLE)
    for _ in range(3):
        await custody.open_patiently(ref)
        custody.clock.advance(60)  # the key that was opened is not cached for so long

    assert ["policy-unhealthy", "availability-key-used"] == await custody.alerts()

    custody.clock.advance(3600)
    await custody.open_patiently(ref)

    assert ["policy-unhealthy", "availability-key-used"] * 2 == await custody.alerts()

    alerts = await listed(custody.store)

    assert [(None, "open")] == states(alerts, "availability-key-used")

    custody.hold("p", Outcome.OK, Outcome.OK)
    custody.restart()
    await custody.open(ref)
    await custody.custodian.prober.probe_cached()

    assert {"resolved"} == {state for _, _, state, _ in await listed(custody.store)}


async def test_audit_broken(store: Store) -> None:
    """The sealer finds an entry that is gone, and tells; it is over when somebody has found the log intact."""
    log, sealer = AuditLog(store, "a", bytes(32), store.clock), Sealer(store, SigningKey.generate(), "one")
    await log.record(*(AuditEntry("key-opened", None, None, {"number": number}) for number in range(3)))
    async with store.begin(CAUSE) as unit:
        await unit.execute(delete(audit_entries).where(audit_entries.c.sequence == 2))
    await sealer.pass_once()

    assert [("audit-broken", None, "open", "engineering")] == await looked(store)

    async with store.begin(CAUSE) as unit:
        await sealing.note_intact(unit)

    assert [("audit-broken", None, "resolved", "engineering")] == await looked(store)


async def test_dead_letter(store: Store) -> None:
    """What a worker gave up is told, and over when it was delivered again."""
    async with store.begin(CAUSE) as unit:
        await bury(unit, "dep_assigner", Message("local", "urn:x", "one", "twinlock.x.v1", "c", b"{}"), 6, "it fails")

    assert [("dead-letter", None, "open", "engineering")] == await looked(store)

    async with store.begin(CAUSE) as unit:
        await retry(unit)

    assert [("dead-letter", None, "resolved", "engineering")] == await looked(store)
