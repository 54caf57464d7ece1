"""What root keys answered, as it is kept: memory, evidence, health, and news told once."""

import json
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, insert, select

from schemas.identifiers import Slot
from twinlock.clock import ManualClock
from twinlock.custody.audit.chain import moment
from twinlock.custody.health.evidence import proven_unavailable
from twinlock.custody.health.verdicts import SlotVerdict, Standing, health_of, read_standing, record
from twinlock.custody.settings import EvidenceRules
from twinlock.errors import NotFound
from twinlock.keys.ports import Corrupt, Denied, Outcome, Unavailable
from twinlock.store.tables.bus import outbox
from twinlock.store.tables.custody import evidence, policies, root_keys, verdicts
from twinlock.store.tables.tenants import tenants
from twinlock.store.unit import Cause, Store

CAUSE = Cause("test")
RULES = EvidenceRules()
OK, UNAVAILABLE, DENIED, UNCLEAR, MISCONFIGURED, CORRUPT = (
    Outcome.OK,
    Outcome.UNAVAILABLE,
    Outcome.DENIED,
    Outcome.UNCLEAR,
    Outcome.MISCONFIGURED,
    Outcome.CORRUPT,
)


class Book:
    """Record answers for one policy, and read back what became of them."""

    def __init__(self, store: Store, clock: ManualClock) -> None:
        self.store = store
        self.clock = clock

    async def answer(self, a: Outcome | None = None, b: Outcome | None = None, **how: Any) -> Standing:
        """Record what one or both slots answered; an `Unavailable` counts unless told otherwise."""
        said = [(Slot.A, a), (Slot.B, b)]
        answers = [self.verdict(slot, outcome, **how) for slot, outcome in said if outcome is not None]
        async with self.store.begin(CAUSE) as unit:
            return await record(unit, "p", answers, RULES)

    def verdict(self, slot: Slot, outcome: Outcome, **how: Any) -> SlotVerdict:
        """Make a verdict of this moment."""
        return SlotVerdict(slot, outcome, **{"asked_at": self.clock.now(), "counts": outcome is UNAVAILABLE, **how})

    async def standing(self) -> Standing:
        """Read how the policy stands."""
        async with self.store.read() as reader:
            return await read_standing(reader, "p")

    async def proven(self) -> tuple[bool, bool]:
        """Say which slots are proven unavailable."""
        async with self.store.read() as reader:
            return await proven_unavailable(reader, "p", self.clock.now(), RULES)

    async def events(self) -> list[tuple[str, str]]:
        """Return what was told: each change of health, each alert's kind."""
        async with self.store.read() as reader:
            rows = await reader.rows(select(outbox.c.type, outbox.c.body))
        return [(row.type.split(".")[1], _news(json.loads(row.body)["data"])) for row in rows]

    async def told(self, type_: str) -> list[dict[str, Any]]:
        """Return what the events of a type say."""
        async with self.store.read() as reader:
            rows = await reader.rows(select(outbox.c.body).where(outbox.c.type == type_).order_by(outbox.c.number))
        return [json.loads(row.body)["data"] for row in rows]


def _news(data: dict[str, Any]) -> str:
    return str(data["health"] if "health" in data else data["kind"])


@pytest.fixture
async def book(store: Store, clock: ManualClock) -> Book:
    """Return a book for one healthy policy."""
    async with store.begin(CAUSE) as unit:
        await unit.execute(insert(tenants).values(id="t", name="acme", trial=False, created_at=clock.now()))
        await unit.execute(
            insert(policies).values(
                id="p",
                tenant_id="t",
                name="main",
                workload="mailbox",
                mode="standard",
                state="active",
                health="healthy",
                newest_generation=1,
                version=1,
                created_at=clock.now(),
            )
        )
        keys = [
            {"policy_id": "p", "slot": slot, "uri": f"x://{slot}/k", "identity": "i", "version": "1"} for slot in "ab"
        ]
        await unit.execute(insert(root_keys), keys)
    return Book(store, clock)


async def test_never_asked(book: Book) -> None:
    """A slot that was never asked is taken to be good."""
    assert (OK, OK) == (await book.standing()).outcomes


async def test_unknown_policy(store: Store) -> None:
    """A policy that does not exist is not found."""
    async with store.read() as reader:
        with pytest.raises(NotFound):
            await read_standing(reader, "p")


@pytest.mark.parametrize("vague", [UNAVAILABLE, UNCLEAR, MISCONFIGURED])
async def test_law_4_stored(book: Book, vague: Outcome) -> None:
    """Law 4: the definite verdict stays in the database beside the last one, until the key itself answers."""
    await book.answer(DENIED, CORRUPT)
    await book.answer(vague, vague)

    assert (DENIED, CORRUPT) == (await book.standing()).outcomes

    await book.answer(OK, OK)
    await book.answer(vague, vague)

    assert (vague, vague) == (await book.standing()).outcomes


async def test_law_4_late_answer(book: Book) -> None:
    """Law 4: a good answer that was asked for before the denial was seen does not lift it."""
    asked_at = book.clock.now()
    book.clock.advance(1)
    await book.answer(DENIED)
    book.clock.advance(1)
    await book.answer(OK, asked_at=asked_at)

    assert (DENIED, OK) == (await book.standing()).outcomes


async def test_now(book: Book) -> None:
    """For one call its own answers count, folded with memory; a slot that was not asked stands as stored."""
    standing = await book.answer(DENIED, UNCLEAR)
    now = standing.now([book.verdict(Slot.A, UNAVAILABLE)])
    healed = standing.now([book.verdict(Slot.A, OK), book.verdict(Slot.B, UNAVAILABLE, counts=False)])

    assert ((DENIED, UNCLEAR), (OK, UNAVAILABLE)) == (now, healed)


async def test_dates(book: Book) -> None:
    """A verdict keeps when it began to be so, and when it was last looked at."""
    start = book.clock.now()
    await book.answer(UNCLEAR)
    book.clock.advance(60)
    await book.answer(UNCLEAR)
    slot = (await book.standing()).slots[Slot.A]

    assert (start, start + timedelta(seconds=60)) == (slot.since, slot.checked_at)


async def test_why_outlasts_an_outage(book: Book) -> None:
    """Law 4: a denied key keeps its reason, its raw answer and its moment, whatever is vague after it."""
    denied_at = book.clock.now()
    await book.answer(DENIED, OK, detail="the key is disabled", raw="403 KeyDisabled")
    book.clock.advance(60)
    await book.answer(UNAVAILABLE, UNAVAILABLE, detail="no answer", raw="deadline")
    outage_at = book.clock.now()
    book.clock.advance(60)
    await book.answer(DENIED, UNAVAILABLE, detail="again", raw="403")
    a, b = (await book.standing()).slots.values()

    assert (denied_at, "again", "403") == (a.held_since, a.said.detail, a.said.raw)
    assert (outage_at, "again", UNAVAILABLE) == (b.held_since, b.said.detail, b.folded)

    await book.answer(UNAVAILABLE, detail="no answer", raw="deadline")

    assert ("again", "403") == ((said := (await book.standing()).slots[Slot.A].said).detail, said.raw)


async def test_confirmed(book: Book) -> None:
    """A definite verdict is confirmed by an exact code, or by a second look that does not lift it."""
    first = await book.answer(DENIED)
    exact = await book.answer(None, DENIED, exact=True)
    book.clock.advance(1)
    second = await book.answer(UNAVAILABLE)

    assert (False, True, True) == (
        first.slots[Slot.A].confirmed,
        exact.slots[Slot.B].confirmed,
        second.slots[Slot.A].confirmed,
    )


async def test_failure_is_kept(store: Store, book: Book) -> None:
    """What the vault really said is kept with the verdict, shortened to what the table holds."""
    failure = Denied("d" * 2000, uri="x", raw="403 " + "r" * 2000, request_id="q" * 300, classifier="c/1", exact=True)
    async with store.begin(CAUSE) as unit:
        await record(unit, "p", [SlotVerdict.failed(Slot.A, failure, book.clock.now())], RULES)
        row = await unit.row(select(verdicts))

    assert row is not None
    assert (1000, 1000, 200, "c/1", True) == (
        len(row.detail),
        len(row.raw),
        len(row.request_id),
        row.classifier,
        row.exact,
    )


def test_only_unavailable_counts(clock: ManualClock) -> None:
    """Law 5: a failure of another class never counts as evidence, whatever its adapter says."""
    failures = [kind("x", uri="x", classifier="c/1", counts=True) for kind in (Unavailable, Denied, Corrupt)]

    assert [True, False, False] == [SlotVerdict.failed(Slot.A, failure, clock.now()).counts for failure in failures]


@pytest.mark.parametrize(
    ("times", "proven"),
    [
        ([0], False),
        ([0, 30], False),
        ([0, 15, 29], False),
        ([0, 15, 30], True),
        ([0, 1, 30], True),
        ([0, 0, 0, 0], False),
        ([0, 60, 121], False),
        ([0, 60, 120], True),
        ([0, 100, 115, 130], True),
        ([0, 10, 131, 140, 150], False),
    ],
)
async def test_law_5_evidence(book: Book, times: list[int], proven: bool) -> None:
    """Law 5: three counting failures over 30 s, none older than 2 min, prove a slot unavailable; less does not."""
    for before, at in zip([0, *times], times, strict=False):
        book.clock.advance(at - before)
        await book.answer(UNAVAILABLE)

    assert (proven, False) == await book.proven()


async def test_law_5_goes_stale(book: Book) -> None:
    """Law 5: evidence that nobody renews is gone after two minutes."""
    for _ in range(3):
        await book.answer(UNAVAILABLE, UNAVAILABLE)
        book.clock.advance(15)
    proven = await book.proven()
    book.clock.advance(76)

    assert ((True, True), (False, False)) == (proven, await book.proven())


async def test_law_5_does_not_count(book: Book) -> None:
    """Law 5: what does not count leaves no trace: no evidence, no verdict, no change of health."""
    for _ in range(5):
        await book.answer(UNAVAILABLE, UNAVAILABLE, counts=False)
        book.clock.advance(15)

    assert (False, False) == await book.proven()
    assert (OK, OK) == (await book.standing()).outcomes
    assert [] == await book.events()


@pytest.mark.parametrize("answer", [OK, DENIED, UNCLEAR, MISCONFIGURED, CORRUPT])
async def test_law_5_any_answer_clears(book: Book, answer: Outcome) -> None:
    """Law 5: any answer but silence starts the evidence of its slot over, and leaves the other slot's alone."""
    for _ in range(3):
        await book.answer(UNAVAILABLE, UNAVAILABLE)
        book.clock.advance(15)
    await book.answer(answer)

    assert (False, True) == await book.proven()


async def test_evidence_is_pruned(book: Book) -> None:
    """A long outage leaves no more evidence than two minutes' worth."""
    for _ in range(50):
        await book.answer(UNAVAILABLE)
        book.clock.advance(10)
    async with book.store.read() as reader:
        count = await reader.scalar(select(func.count()).select_from(evidence))

    assert 13 == count


async def test_health_moves_with_its_news(book: Book) -> None:
    """Health changes as slots fail and heal, each change with its event, and alerts only for what is new."""
    for answers in ((OK, OK), (DENIED, OK), (DENIED, OK), (DENIED, DENIED), (UNAVAILABLE, UNAVAILABLE), (OK, None)):
        await book.answer(*answers)
        book.clock.advance(1)
    await book.answer(None, OK)
    standing = await book.standing()

    assert [
        ("health", "degraded"),
        ("alert", "key-revoked"),
        ("alert", "policy-degraded"),
        ("health", "unhealthy"),
        ("alert", "key-revoked"),
        ("alert", "policy-unhealthy"),
        ("health", "degraded"),
        ("alert", "policy-degraded"),
        ("health", "healthy"),
    ] == await book.events()
    assert ("healthy", 5) == (standing.policy.health, standing.policy.version)


async def test_alerts_say_how_both_slots_stand(book: Book) -> None:
    """The alert of a policy's health says what both root keys came to, also the one that was not asked this time."""
    await book.answer(DENIED, detail="it is disabled")
    await book.answer(None, UNAVAILABLE)
    told = {data["kind"]: data["detail"] for data in await book.told("twinlock.alert.raised.v1")}

    assert "policy acme/main: root key a denied (it is disabled), root key b ok" == told["policy-degraded"]
    assert "policy acme/main: root key a denied (it is disabled), root key b unavailable" == told["policy-unhealthy"]


async def test_health_says_why(book: Book) -> None:
    """A change of health says of each key since when it stands so, and what its vault said: of a denial, to that."""
    since = [book.clock.now()]
    await book.answer(OK, OK)
    for answers in ((DENIED, None), (UNAVAILABLE, UNAVAILABLE)):
        book.clock.advance(5)
        since.append(book.clock.now())
        await book.answer(*answers, detail=answers[0].value)
    a, b = (moment(at) for at in since[1:])

    assert [
        ({"a": a, "b": moment(since[0])}, {"a": "denied"}),
        ({"a": a, "b": b}, {"a": "denied", "b": "unavailable"}),
    ] == [(data["since"], data["reasons"]) for data in await book.told("twinlock.health.changed.v1")]


async def test_alerts_are_counted_again(book: Book) -> None:
    """What goes on is told again when it is seen in another hour, and after a day on another day; never oftener."""
    counts = []
    for seconds in (0, 60, 3540, 60, 7200, 86400, 3600, 82800):
        book.clock.advance(seconds)
        await book.answer(DENIED, DENIED)
        await book.answer(UNAVAILABLE)
        counts.append(Counter(data["kind"] for data in await book.told("twinlock.alert.raised.v1")))

    assert [1, 1, 2, 2, 3, 4, 4, 5] == [count["policy-unhealthy"] for count in counts]
    assert [2 * count["policy-unhealthy"] for count in counts] == [count["key-revoked"] for count in counts]


async def test_news_rolls_back(book: Book) -> None:
    """Verdict, health and news are one change: what rolls back tells nothing."""
    unit_failed = False
    try:
        async with book.store.begin(CAUSE) as unit:
            await record(unit, "p", [book.verdict(Slot.A, DENIED)], RULES)
            raise LookupError
    except LookupError:
        unit_failed = True

    assert unit_failed
    assert [] == await book.events()
    assert replace(await book.standing()).outcomes == (OK, OK)


async def test_alerts_are_logged(book: Book, caplog: pytest.LogCaptureFixture) -> None:
    """An alert is a log line too, and names policy and slot as people do."""
    await book.answer(CORRUPT, detail="does not match")

    assert "alert corrupt-wrap (critical, to engineering): policy acme/main, root key a: does not match" in caplog.text


@pytest.mark.parametrize(
    ("pair", "health"), [((OK, OK), "healthy"), ((UNCLEAR, OK), "degraded"), ((DENIED, UNAVAILABLE), "unhealthy")]
)
def test_health(pair: tuple[Outcome, Outcome], health: str) -> None:
    """Health is how many root keys answer."""
    assert health == health_of(pair)
