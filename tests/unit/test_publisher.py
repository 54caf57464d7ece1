"""The door for requests, and their answers."""

import json
from typing import Any

import pytest
from sqlalchemy import delete, select

from events.answers import Answer, answer, answer_id, read_answer
from events.handler import Received
from events.inbox import Conflict, forget
from events.publisher import NotARequest, Publisher
from schemas.envelope import parse
from schemas.event import Malformed, TooLarge, UnknownType
from schemas.identifiers import RequestOutcome
from schemas.names import DEP_ASSIGNER
from schemas.requests import RefreshRequested
from twinlock.clock import ManualClock
from twinlock.store.tables.bus import outbox
from twinlock.store.tables.work import requests
from twinlock.store.unit import Cause, Store

OUTSIDE = "urn:outside:portal"


@pytest.fixture
def publisher(store: Store) -> Publisher:
    return Publisher(store)


def body(**changes: Any) -> bytes:
    envelope = {
        "specversion": "1.0",
        "id": "r-1",
        "source": OUTSIDE,
        "type": RefreshRequested.type,
        "time": "2026-01-01T00:00:00Z",
        "datacontenttype": "application/json",
        "data": {"policy": "acme/mail"},
    }
    return json.dumps(envelope | changes).encode()


def named(store: Store, sender: str) -> Publisher:
    """Publish under another name on the same database."""
    return Publisher(Store(store.engine, store.clock, store.source, sender))


async def outgoing(store: Store) -> list[Any]:
    async with store.read() as reader:
        return list(await reader.rows(select(outbox)))


async def dispatch(store: Store) -> None:
    """Empty the outbox, as the relay does."""
    async with store.begin(Cause("test")) as unit:
        await unit.execute(delete(outbox))


async def known(store: Store, source: str = OUTSIDE, request_id: str = "r-1") -> Answer | None:
    async with store.read() as reader:
        return await read_answer(reader, source, request_id)


async def test_request(store: Store, publisher: Publisher) -> None:
    """Our own request goes out in our name, starts a correlation of its own, and waits for its answer."""
    request_id = await publisher.request(RefreshRequested(policy="acme/mail"))
    (row,) = await outgoing(store)
    envelope, event = parse(row.body)
    asked = await known(store, store.source, request_id)

    assert RefreshRequested(policy="acme/mail") == event
    assert (request_id, store.source, request_id) == (envelope.id, envelope.source, row.correlation)
    assert asked is not None
    assert (None, RefreshRequested.type) == (asked.outcome, asked.type)
    assert store.outgoing.is_set()


async def test_request_within_a_correlation(store: Store, publisher: Publisher) -> None:
    """A request that belongs to something larger carries its correlation."""
    await publisher.request(RefreshRequested(policy="acme/mail"), correlation="c-1")
    (row,) = await outgoing(store)

    assert "c-1" == row.correlation


async def test_publish_keeps_the_bytes(store: Store, publisher: Publisher) -> None:
    """A request from outside travels as the bytes that were written, under its publisher."""
    written = body(extra="kept")

    assert "r-1" == await named(store, "portal").publish(written)

    (row,) = await outgoing(store)

    assert (written, "portal", OUTSIDE) == (row.body, row.publisher, row.source)


async def test_publish_again(store: Store, publisher: Publisher) -> None:
    """The same request again returns its id and changes nothing, also after it has left the outbox."""
    await publisher.publish(body())
    first = await publisher.publish(body())
    await dispatch(store)
    second = await publisher.publish(body())

    assert ("r-1", "r-1") == (first, second)
    assert [] == await outgoing(store)


async def test_publish_again_much_later(store: Store, publisher: Publisher, clock: ManualClock) -> None:
    """The same request is known for as long as its row is, however much of the inbox is forgotten."""
    await publisher.publish(body())
    await dispatch(store)
    clock.advance(1e9)
    await forget(store, DEP_ASSIGNER, clock.now())
    await publisher.publish(body())

    assert [] == await outgoing(store)


@pytest.mark.parametrize("dispatched", [False, True])
async def test_another_body(store: Store, publisher: Publisher, dispatched: bool) -> None:
    """Another body under a known source and id is refused loudly, and nothing of it remains."""
    await publisher.publish(body())
    if dispatched:
        await dispatch(store)
    with pytest.raises(Conflict):
        await publisher.publish(body(data={"policy": "acme/other"}))

    assert (0 if dispatched else 1) == len(await outgoing(store))


async def test_another_publisher(store: Store, publisher: Publisher) -> None:
    """Another publisher can't use the source and id of somebody's request."""
    await publisher.publish(body())
    with pytest.raises(Conflict, match="by another publisher"):
        await named(store, "stranger").publish(body())

    async with store.read() as reader:
        assert ["local"] == [row.publisher for row in await reader.rows(select(requests))]


async def test_fact(store: Store, publisher: Publisher) -> None:
    """A fact from outside is refused with the list of what may be asked for."""
    data = {"kind": "k", "severity": "info", "audience": "customer", "tenant": "acme", "detail": ""}
    with pytest.raises(NotARequest, match=r"twinlock\.alert\.raised\.v1 is a fact, not a request") as raised:
        await publisher.publish(body(type="twinlock.alert.raised.v1", data=data))

    assert RefreshRequested.type in raised.value.hint
    assert [] == await outgoing(store)


@pytest.mark.parametrize(
    ("message", "refusal"),
    [
        (b"rubbish", Malformed),
        (b" " * 70_000, TooLarge),
        (body(type="twinlock.refresh.imagined.v1"), UnknownType),
        (body(data={}), Malformed),
    ],
)
async def test_refused(store: Store, publisher: Publisher, message: bytes, refusal: type[Exception]) -> None:
    """An invalid message is refused before anything is stored."""
    with pytest.raises(refusal):
        await publisher.publish(message)

    async with store.read() as reader:
        assert [] == await reader.rows(select(requests))


async def answered(store: Store, outcome: RequestOutcome, detail: str, **result: Any) -> None:
    envelope, _event = parse(body())
    received = Received(envelope, "local")
    async with store.begin(received.cause) as unit:
        await answer(unit, received.asked, outcome, result, detail)


async def test_answer(store: Store, publisher: Publisher, clock: ManualClock) -> None:
    """An answer is read by who waits for it, and its publisher is told."""
    await publisher.publish(body())
    await dispatch(store)
    clock.advance(3.0)
    await answered(store, RequestOutcome.DONE, "2 keys", keys=["a", "b"])
    found = await known(store)
    (told,) = await outgoing(store)
    envelope, _event = parse(told.body)

    assert found is not None
    assert (RequestOutcome.DONE, "2 keys", {"keys": ["a", "b"]}) == (found.outcome, found.detail, found.answer)
    assert clock.now() == found.finished_at
    assert answer_id(OUTSIDE, "r-1") == envelope.id
    assert "r-1" == envelope.causationid


async def test_first_answer_stands(store: Store, publisher: Publisher) -> None:
    """A second answer changes nothing and tells nothing."""
    await publisher.publish(body())
    await dispatch(store)
    await answered(store, RequestOutcome.DONE, "first")
    await answered(store, RequestOutcome.FAILED, "second")
    found = await known(store)

    assert found is not None
    assert (RequestOutcome.DONE, "first") == (found.outcome, found.detail)
    assert 1 == len(await outgoing(store))


async def test_answer_without_a_row(store: Store) -> None:
    """A request that another installation received is still answered on the bus."""
    await answered(store, RequestOutcome.REFUSED, "no such policy")

    assert 1 == len(await outgoing(store))


async def test_unknown_request(store: Store) -> None:
    """A request that nobody made has no answer and is not pending either."""
    assert await known(store) is None
