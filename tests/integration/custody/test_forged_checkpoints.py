"""A database whose owner's tables somebody else writes: what nobody signed moves no mark, and hides no loss."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import delete, insert, select, update

from tests.integration.custody.test_restored import CAUSE, MAC_KEY, Installation, go_back
from twinlock.custody.audit.believing import ForgedCheckpoint, LogKeys
from twinlock.custody.audit.chain import SIGNED, Checkpoint, Signed
from twinlock.custody.audit.cut import PRUNED
from twinlock.custody.audit.log import AuditEntry, AuditLog
from twinlock.custody.audit.sealing import Sealer
from twinlock.custody.revocation.mark import Mark, MemoryMarks, Restored, RestoreGuard, lacking
from twinlock.keys.signing import SigningKey, fingerprint
from twinlock.store.tables.custody import audit_checkpoints, audit_cuts, audit_seals
from twinlock.store.unit import Store

if TYPE_CHECKING:
    from tests.integration.custody.conftest import Custody

STRANGER, HEAD, FAR = SigningKey.generate(), bytes(range(32)), 10**9
TABLES = (audit_seals, audit_checkpoints)


async def written(store: Store, *changes: Any) -> None:
    """Change rows as their owner can."""
    async with store.begin(CAUSE) as unit:
        for change in changes:
            await unit.execute(change)


async def stored(store: Store) -> Mapping[Any, Sequence[Mapping[str, Any]]]:
    """Return the seals and checkpoints that are there."""
    async with store.read() as reader:
        return {table: [row._asdict() for row in await reader.rows(select(table))] for table in TABLES}


async def put(store: Store, signed: Signed, head: bytes = HEAD) -> None:
    """Write a checkpoint, and a seal with it that was not there."""
    at, row = store.clock.now(), {"statement": signed.statement, "signature": signed.signature}
    await written(
        store,
        insert(audit_checkpoints).values(seal=FAR, at=at, **row),
        insert(audit_seals).values(number=FAR, writer="zoe", first=1, last=FAR, at=at, entries=FAR, head=head),
    )


def signed(place: Installation, by: SigningKey, named: SigningKey | None = None) -> Signed:
    """Sign a checkpoint of a seal that is far away, in the name of another key where one is named."""
    key = fingerprint((named or by).public)
    statement = Checkpoint(FAR, HEAD, FAR, {"zoe": FAR}, place.custody.clock.now(), key).statement()
    return Signed(statement, by.sign(SIGNED, statement))


def _edited(place: Installation) -> Signed:
    genuine = signed(place, place.key)
    return replace(genuine, statement=genuine.statement.replace(b"zoe", b"ann"))


def _old(place: Installation) -> Signed:
    mark = place.marks.read()
    assert mark is not None
    assert mark.signed is not None
    return mark.signed


FORGED: Mapping[str, Callable[[Installation], Signed]] = {
    "by a stranger": lambda place: signed(place, STRANGER),
    "by a stranger in our name": lambda place: signed(place, STRANGER, place.key),
    "by us in a stranger's name": lambda place: signed(place, place.key, STRANGER),
    "edited": _edited,
    "rubbish": lambda place: Signed(b"[", b""),
    "an old one under a high number": _old,
}
_newest = audit_seals.c.number == 2
SPOILED = {
    "of a seal that is another": update(audit_seals).where(_newest).values(head=HEAD),
    "of a seal that is gone": delete(audit_seals).where(_newest),
}


async def forge(place: Installation, how: str) -> None:
    """Do to the newest checkpoint what is said."""
    if how in SPOILED:
        await written(place.store, SPOILED[how])
        return
    found = FORGED[how](place)
    await put(place.store, found, found.head if how.startswith("an old one") else HEAD)


@pytest.mark.parametrize("how", [*FORGED, *SPOILED])
async def test_law_15_forged_checkpoint(custody: "Custody", how: str) -> None:
    """Law 15: a checkpoint that was not signed of this chain moves no mark; nothing is served until it is gone."""
    ref = await custody.container(await custody.policy("p"))
    place = Installation(custody)
    await custody.open(ref, custodian=place.custodian)
    await place.seal()
    known = place.marks.read()
    await place.audit.record(AuditEntry("root-key-probed", None, None, {}))
    await Sealer(custody.store, place.key, "test").pass_once(insist=True)
    genuine = await stored(custody.store)
    await forge(place, how)
    custody.clock.advance(60)
    with pytest.raises(ForgedCheckpoint):
        await custody.open(ref, custodian=place.custodian)

    assert known == place.marks.read()
    assert [] == list(place.custodian.cached())
    assert not place.custodian.epoch.holds

    await written(custody.store, *(delete(table) for table in TABLES))
    await written(custody.store, *(insert(table).values(row) for table in TABLES for row in genuine[table]))
    await custody.open(ref, custodian=place.custodian)
    moved = place.marks.read()

    assert 2 == (moved and moved.seal)


@pytest.mark.parametrize(
    ("signer", "mac_key", "head", "lacks"),
    [
        ("ours", MAC_KEY, HEAD, ""),
        ("stranger", MAC_KEY, HEAD, "it lacks seal 2 of the audit log"),
        ("ours", bytes(range(32)), HEAD, "it lacks seal 2 of the audit log"),
        ("ours", MAC_KEY, bytes(32), "it lacks seal 2 of the audit log"),
    ],
    ids=["genuine", "signed-by-a-stranger", "recorded-by-a-stranger", "of-another-seal"],
)
async def test_law_15_forged_cut(custody: "Custody", signer: str, mac_key: bytes, head: bytes, lacks: str) -> None:
    """Law 15: a log that was rolled back does not pass for one that went on and was pruned, whatever cut it names."""
    await custody.policy("p")
    place = Installation(custody)
    await place.seal()
    before = len(await custody.audit())
    await place.audit.record(AuditEntry("root-key-probed", None, None, {}))
    await place.seal()
    mark = place.marks.read()
    await go_back(custody.store, 1, before)
    await put(custody.store, signed(place, place.key if signer == "ours" else STRANGER), head)
    await AuditLog(custody.store, "zoe", mac_key, custody.clock).record(
        AuditEntry(PRUNED, None, None, {"seal": FAR, "head": HEAD.hex()})
    )
    await written(custody.store, insert(audit_cuts).values(seal=FAR, writer="zoe", sequence=1))
    async with custody.store.read() as reader:
        assert lacks == await lacking(reader, mark, LogKeys(MAC_KEY, place.key.public))
        unchecked = await lacking(reader, mark, None)

    assert "it lacks seal 2 of the audit log, and no key is here to tell whether that was pruned" == unchecked


async def test_law_8_checkpoints_removed(custody: "Custody") -> None:
    """Law 8: whoever removes every checkpoint keeps no revocation out of the mark, and moves no part of it back."""
    await custody.policy("p")
    place = Installation(custody)
    await place.seal()
    known = place.marks.read()
    assert known is not None
    before = len(await custody.audit())
    await written(custody.store, delete(audit_checkpoints))
    await place.revoke()
    await place.custodian.epoch.confirm()

    assert Mark(1, known.signed, "revoked:p") == place.marks.read()
    await place.restoring().check(CAUSE, None)

    assert Mark(1, known.signed, "revoked:p") == place.marks.read()
    await go_back(custody.store, 1, before)
    with pytest.raises(Restored, match="lacks revocation 1"):
        await place.custodian.epoch.confirm()


async def test_law_15_key_comes_later(custody: "Custody") -> None:
    """Law 15: without the key no checkpoint is believed, though revocations are; with it the mark moves on."""
    await custody.policy("p")
    place = Installation(custody)
    keys, marks = list[LogKeys](), MemoryMarks(Mark())
    guard = RestoreGuard(marks, lambda: keys[0] if keys else None)
    await place.revoke()
    await place.seal()
    async with custody.store.read() as reader:
        await guard.check(reader)

    assert Mark(1, None, "revoked:p") == marks.read()
    keys.append(LogKeys(MAC_KEY, place.key.public))
    async with custody.store.read() as reader:
        await guard.check(reader)

    assert place.marks.read() == marks.read()


async def test_law_15_accepts_no_forgery(custody: "Custody") -> None:
    """Law 15: no mark is made of a forged checkpoint, also by the operator's word, and nothing else is done then."""
    await custody.policy("p")
    place = Installation(custody)
    await place.seal()
    known = place.marks.read()
    await put(custody.store, signed(place, STRANGER))
    written_before = len(await custody.audit())
    with pytest.raises(ForgedCheckpoint, match=f"seal {FAR}"):
        await place.restoring().check(CAUSE, None)
    with pytest.raises(ForgedCheckpoint, match=f"seal {FAR}"):
        await place.restoring().accept(CAUSE, "the log burnt")

    assert (known, written_before) == (place.marks.read(), len(await custody.audit()))


async def test_law_15_replay_takes_it_out(custody: "Custody") -> None:
    """Law 15: a replay removes a forged checkpoint from where lost ones belong, and what was signed is back."""
    await custody.policy("p")
    place = Installation(custody)
    await place.seal()
    lines = await place.lose_revocation()
    known = place.marks.read()
    await put(custody.store, signed(place, STRANGER))
    found = await place.restoring().check(CAUSE, lines)

    assert (1, known) == (found.replayed, place.marks.read())
    await place.custodian.epoch.confirm()
