"""The chain of a tenant's approvers: who may change it, and that no change of its rows goes unseen."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest

from twinlock.approvals.chain import (
    ACTIONS,
    ROOT,
    Approvers,
    BrokenChain,
    Change,
    Link,
    Origin,
    Signature,
    replay,
)
from twinlock.approvals.statement import Action, NamedApprover, Statement
from twinlock.keys.signing import SigningKey, fingerprint

NOW = datetime(2026, 1, 1, tzinfo=UTC)
WAIT = timedelta(hours=72)
ORIGIN = Origin("i1", "t1")
ANN, BOB, CEDRIC, DORA = (SigningKey.generate() for _ in range(4))


def first(number: int, name: str, key: SigningKey, change: Change = Change.ADD) -> Link:
    """Make a change by the operator's word."""
    return Link(number, change, name, key.public, NOW, NOW)


def statement(approvers: Approvers, change: Change, name: str, key: SigningKey, **fields: Any) -> Statement:
    """Say what two have to sign."""
    named = NamedApprover(name, fingerprint(key.public).hex(), round(WAIT.total_seconds()), approvers.head.hex())
    about = {
        "installation": "i1",
        "tenant_id": "t1",
        "tenant": "acme",
        "request": "r1",
        "reason": "",
        "approver": named,
    }
    moments = {"requested": NOW, "expires": NOW + timedelta(days=7)}
    return Statement(**{"action": ACTIONS[change], **about, **moments, **fields})


def signed(
    approvers: Approvers, change: Change, name: str, key: SigningKey, *by: SigningKey, at: datetime = NOW, **fields: Any
) -> Link:
    """Make a change that these have signed for."""
    said = statement(approvers, change, name, key, **fields)
    signatures = tuple(Signature(fingerprint(each.public).hex(), each.sign(said.label, said.body)) for each in by)
    counts_from = at + WAIT if change is Change.ADD else at
    return Link(approvers.number + 1, change, name, key.public, at, counts_from, said.encode(), signatures)


@pytest.fixture
def two() -> Approvers:
    """Return the first two approvers."""
    return Approvers(ORIGIN).follow(first(1, "ann", ANN)).follow(first(2, "bob", BOB))


@pytest.fixture
def three(two: Approvers) -> Approvers:
    """Return them with a third one, who waits."""
    return two.follow(signed(two, Change.ADD, "cedric", CEDRIC, ANN, BOB))


def test_law_16_first_two_count_at_once(two: Approvers) -> None:
    """Law 16: the first two come by the operator's word, count at once, and one alone does not suffice."""
    alone = Approvers(ORIGIN).follow(first(1, "ann", ANN))

    assert (False, True) == (alone.suffice(NOW), two.suffice(NOW))
    assert (True, False) == (alone.are_first, two.are_first)


def test_law_16_third_waits(three: Approvers) -> None:
    """Law 16: a later approver counts after 72 h and not a moment before."""
    before = NOW + WAIT - timedelta(microseconds=1)

    assert ["ann", "bob"] == [each.name for each in three.counting(before)]
    assert ["ann", "bob", "cedric"] == [each.name for each in three.counting(NOW + WAIT)]


@pytest.mark.parametrize("by", [(), (ANN,), (ANN, ANN), (ANN, CEDRIC), (CEDRIC, CEDRIC)])
def test_law_16_two_different(two: Approvers, by: tuple[SigningKey, ...]) -> None:
    """Law 16: a later change needs two different approvers: not one, one twice, or one with the newcomer."""
    with pytest.raises(BrokenChain, match="two approvers did not sign"):
        two.follow(signed(two, Change.ADD, "cedric", CEDRIC, *by))


def test_law_16_waiting_signs_nothing(three: Approvers) -> None:
    """Law 16: one who does not count yet signs no change, and does from the moment it counts."""
    early, late = NOW + timedelta(hours=71), NOW + WAIT
    with pytest.raises(BrokenChain, match="two approvers did not sign"):
        three.follow(signed(three, Change.ADD, "dora", DORA, ANN, CEDRIC, at=early))

    assert 4 == len(three.follow(signed(three, Change.ADD, "dora", DORA, ANN, CEDRIC, at=late)).members)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"installation": "i2"}, "another tenant's"),
        ({"tenant_id": "t2"}, "another tenant's"),
        ({"action": Action.REMOVE_APPROVER}, "another change"),
        ({"action": Action.RESTORE_POLICY}, "another change"),
        ({"approver": None}, "another change"),
        ({"approver": NamedApprover("cedric", fingerprint(DORA.public).hex(), 0, ROOT.hex())}, "another change"),
        ({"expires": NOW}, "did not hold any more"),
        ({"requested": NOW + timedelta(seconds=1)}, "did not hold any more"),
    ],
)
def test_law_16_statement_of_something_else(two: Approvers, fields: dict[str, Any], fault: str) -> None:
    """Law 16: two good signatures over anything else change nothing."""
    with pytest.raises(BrokenChain, match=fault):
        two.follow(signed(two, Change.ADD, "cedric", CEDRIC, ANN, BOB, **fields))


def test_law_16_replayed(three: Approvers, two: Approvers) -> None:
    """Law 16: what was signed for one change is void after it, and after every other change."""
    left = three.follow(signed(three, Change.REMOVE, "cedric", CEDRIC, ANN, BOB))
    again = replace(signed(two, Change.ADD, "cedric", DORA, ANN, BOB), number=5)

    with pytest.raises(BrokenChain, match="another change"):
        left.follow(again)


def test_law_16_counts_no_earlier(two: Approvers) -> None:
    """Law 16: nobody counts earlier than was signed."""
    link = signed(two, Change.ADD, "cedric", CEDRIC, ANN, BOB)
    with pytest.raises(BrokenChain, match="counts earlier"):
        two.follow(replace(link, counts_from=NOW + timedelta(hours=71)))


def test_law_16_a_key_once(three: Approvers) -> None:
    """Law 16: a fingerprint appears once, under whatever name, and also after its approver was removed."""
    with pytest.raises(BrokenChain, match="once, for good"):
        Approvers(ORIGIN).follow(first(1, "ann", ANN)).follow(first(2, "bob", ANN))
    with pytest.raises(BrokenChain, match="the name is taken"):
        Approvers(ORIGIN).follow(first(1, "ann", ANN)).follow(first(2, "ann", BOB))
    left = three.follow(signed(three, Change.REMOVE, "cedric", CEDRIC, ANN, BOB))

    with pytest.raises(BrokenChain, match="once, for good"):
        left.follow(signed(left, Change.ADD, "carl", CEDRIC, ANN, BOB))
    assert 3 == len(left.follow(signed(left, Change.ADD, "cedric", DORA, ANN, BOB)).members)


def test_law_16_never_below_two(two: Approvers, three: Approvers) -> None:
    """Law 16: two who count are never signed away, or the operator alone could name the next ones."""
    for approvers in (two, three):
        with pytest.raises(BrokenChain, match="fewer than two"):
            approvers.follow(signed(approvers, Change.REMOVE, "bob", BOB, ANN, BOB))
    late = NOW + WAIT

    assert three.follow(signed(three, Change.REMOVE, "bob", BOB, ANN, BOB, at=late)).suffice(late)


def test_law_16_operator_alone(two: Approvers) -> None:
    """Law 16: once there are two the operator's word changes nothing; before that it may take a mistake back."""
    for link in (first(3, "cedric", CEDRIC), first(3, "bob", BOB, Change.REMOVE)):
        with pytest.raises(BrokenChain, match="nobody signed"):
            two.follow(link)
    alone = Approvers(ORIGIN).follow(first(1, "ann", ANN))

    assert () == alone.follow(first(2, "ann", ANN, Change.REMOVE)).members


def _rows() -> list[tuple[Link, bytes]]:
    approvers, rows = Approvers(ORIGIN), []
    for number, (name, key) in enumerate((("ann", ANN), ("bob", BOB)), 1):
        approvers = approvers.follow(first(number, name, key))
        rows.append((first(number, name, key), approvers.head))
    for name, key in (("cedric", CEDRIC), ("dora", DORA)):
        link = signed(approvers, Change.ADD, name, key, ANN, BOB)
        approvers = approvers.follow(link)
        rows.append((link, approvers.head))
    return rows


def test_law_16_hash_by_hand() -> None:
    """Law 16: a change's hash is made of exactly the bytes that docs/formats.md gives."""
    link = replace(first(1, "ann", ANN), statement=b"s", signatures=(Signature("f", b"\x01"),))
    moments = '"at":"2026-01-01T00:00:00.000000+00:00","change":"add","counts_from":"2026-01-01T00:00:00.000000+00:00"'
    names = f'"installation":"i1","name":"ann","number":1,"previous":"{"0" * 64}","public_key":"{ANN.public.hex()}"'
    body = f'{{{moments},{names},"signatures":[["f","01"]],"statement":"73","tenant_id":"t1"}}'

    assert sha256(b"twinlock.approvers.v1\x00" + body.encode()).digest() == link.digest(ORIGIN, ROOT)


def test_law_16_replay() -> None:
    """Law 16: the rows of a chain verify, for their own tenant alone."""
    assert ["ann", "bob", "cedric", "dora"] == [each.name for each in replay(ORIGIN, _rows()).members]
    for origin in (Origin("i2", "t1"), Origin("i1", "t2")):
        with pytest.raises(BrokenChain):
            replay(origin, _rows())


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize(
    "fields",
    [
        {"name": "eve"},
        {"public_key": SigningKey.generate().public},
        {"at": NOW + timedelta(seconds=1)},
        {"counts_from": NOW + timedelta(days=30)},
        {"change": Change.REMOVE},
        {"number": 9},
        {"statement": b""},
        {"signatures": ()},
    ],
)
def test_law_16_edited(number: int, fields: dict[str, Any]) -> None:
    """Law 16: an edit of any field of any row breaks the chain, but for one that changes nothing."""
    rows = _rows()
    edited = replace(rows[number][0], **fields)
    if edited == rows[number][0]:
        return
    rows[number] = (edited, rows[number][1])
    with pytest.raises(BrokenChain):
        replay(ORIGIN, rows)


@pytest.mark.parametrize("number", range(3))
def test_law_16_row_gone_or_moved(number: int) -> None:
    """Law 16: a row that is missing or in another place breaks the chain; what is cut from its end, the audit tells."""
    rows = _rows()
    with pytest.raises(BrokenChain):
        replay(ORIGIN, rows[:number] + rows[number + 1 :])
    rows[number], rows[number + 1] = rows[number + 1], rows[number]
    with pytest.raises(BrokenChain):
        replay(ORIGIN, rows)
