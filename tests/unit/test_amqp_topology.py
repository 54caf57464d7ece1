"""The topology as data: what a worker needs, what RabbitMQ understands, and where messages travel."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.amqp import names
from events.amqp.topology import TIERS, fleet
from events.ladder import Ladder
from schemas.facts import AlertChanged, RequestAnswered
from schemas.registry import EVENTS
from schemas.routing import answer_key, binding, destination, exchange, routing_key, word
from workers.roster import ROSTER, Workplace, handlers_of, types_of
from workers.settings import WorkerSettings

WORKERS = types_of()
TOPOLOGY = fleet(WORKERS)

# What both RabbitMQ 3.10 and 4.x accept for each kind of queue.
ACCEPTED = {
    "quorum": {
        *("x-dead-letter-exchange", "x-dead-letter-routing-key", "x-dead-letter-strategy", "x-delivery-limit"),
        *("x-max-length", "x-max-length-bytes", "x-message-ttl", "x-overflow", "x-queue-leader-locator"),
    },
    "stream": {"x-max-age", "x-max-length-bytes", "x-stream-max-segment-size-bytes"},
    "classic": {"x-max-length", "x-message-ttl", "x-overflow"},
}


def test_arguments_are_valid_everywhere() -> None:
    """Every queue has a kind, and only arguments that the oldest and the newest broker accept for it."""
    for queue in TOPOLOGY.queues:
        assert set(queue.arguments) - {"x-queue-type"} <= ACCEPTED[queue.arguments["x-queue-type"]]


def test_nothing_refers_to_what_is_not_there() -> None:
    """Every binding, dead-letter exchange and alternate exchange leads to something that is declared, once."""
    exchanges = [one.name for one in TOPOLOGY.exchanges]
    queues = [one.name for one in TOPOLOGY.queues]
    used = {one.exchange for one in TOPOLOGY.bindings}
    used |= {one.arguments["alternate-exchange"] for one in TOPOLOGY.exchanges if one.arguments}
    dead = [one.arguments.get("x-dead-letter-exchange") for one in TOPOLOGY.queues]

    assert used | {name for name in dead if name} <= set(exchanges)
    assert {one.queue for one in TOPOLOGY.bindings} <= set(queues)
    assert len(set(exchanges)) == len(exchanges)
    assert len(set(queues)) == len(queues)


@pytest.mark.parametrize("worker", WORKERS)
def test_dead_letters_are_at_least_once(worker: str) -> None:
    """Whatever dead-letters into something of value rejects what it has no room for: else letters may get lost."""
    own = [queue for queue in TOPOLOGY.queues if queue.name.startswith(f"twinlock.{worker}.")]
    own = [queue for queue in own if queue.arguments["x-queue-type"] == "quorum"]

    assert 2 + len(TIERS) == len(own)
    for queue in own:
        assert "reject-publish" == queue.arguments["x-overflow"]
        assert ("x-dead-letter-exchange" in queue.arguments) == ("x-dead-letter-strategy" in queue.arguments)


@pytest.mark.parametrize("worker", WORKERS)
def test_every_tier_leads_back(worker: str) -> None:
    """A worker's ladder has the tiers of the runtime's, each leading back to that worker alone."""
    found = {
        queue.arguments["x-message-ttl"] / 1000: queue.arguments
        for queue in TOPOLOGY.queues
        if queue.name.startswith(names.retry_exchange(worker) + ".")
    }

    assert list(Ladder().tiers) == sorted(found)
    assert ["5s", "30s", "2m", "10m", "1h"] == [names.tier_name(tier) for tier in sorted(found)]
    for arguments in found.values():
        assert names.retry_exchange(worker) == arguments["x-dead-letter-exchange"]
        assert names.NOW == arguments["x-dead-letter-routing-key"]


def test_bindings_are_what_is_handled() -> None:
    """Each worker's queue gets exactly the types that its handlers handle."""
    nothing: Any = None  # only their types are looked at
    purging = SimpleNamespace(requesting=nothing, content=nothing, carrying=lambda *_: nothing)
    means: dict[str, Any] = {"recovering": object(), "purging": purging}
    handlers = handlers_of(Workplace(nothing, nothing, nothing, nothing, nothing, WorkerSettings(), **means))

    for worker in ROSTER:
        handled = {handler.handles.type for handler in handlers if handler.consumer == worker}

        assert handled == set(WORKERS.get(worker, ()))
        assert {binding(event) for event in handled} == {
            (one.exchange, one.key)
            for one in TOPOLOGY.bindings
            if one.queue == names.inbound(worker) and one.exchange != names.retry_exchange(worker)
        }


@pytest.mark.parametrize(
    ("delay", "tier"),
    [(0.0, 5.0), (4.1, 5.0), (5.0, 5.0), (5.1, 30.0), (599.0, 600.0), (3600.0, 3600.0), (9e9, 3600.0)],
)
def test_tier_for(delay: float, tier: float) -> None:
    """A delay gets the smallest tier that is not shorter, or the longest there is."""
    assert tier == names.tier_for(TIERS, delay)


@pytest.mark.parametrize("event", EVENTS.values(), ids=lambda event: event.type)
def test_destination(event: type) -> None:
    """Every type travels to the exchange that its kind has, by a key that its binding matches."""
    if event in (RequestAnswered, AlertChanged):
        assert binding(event.type)[1] in ("answer.#", "alert.#")
    else:
        assert (exchange(event), routing_key(event.type)) == destination(event.type, b"")  # type: ignore[attr-defined]
        assert destination(event.type, b"") == binding(event.type)  # type: ignore[attr-defined]


@given(st.text(min_size=1), st.text(min_size=1))
def test_one_word_a_login(one: str, other: str) -> None:
    """A login is exactly one word of a key, without a wildcard, and no two logins share theirs (law 13)."""
    found = word(one)

    assert found
    assert not set(found) & set(".*#")
    assert len(answer_key(one, "refused").encode()) < 255
    assert 3 == len(answer_key(one, "done").split("."))
    assert (one == other) == (word(other) == found)


@pytest.mark.parametrize("login", ["portal", "a-b_C9", "0" * 100])
def test_plain_logins_stay(login: str) -> None:
    """A login that is a word stays readable."""
    assert login == word(login)
    assert word("sha256-" + "0" * 32) != "sha256-" + "0" * 32
