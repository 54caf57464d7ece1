"""The AsyncAPI document against what is in a broker after a declaration."""

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from events.amqp.connection import Link
from events.amqp.declare import declare
from events.amqp.topology import fleet
from schemas.asyncapi import asyncapi
from workers.roster import types_of

if TYPE_CHECKING:
    from tests.servers.rabbitmq import RabbitNode, Vhost

pytestmark = pytest.mark.servers

Route = tuple[str, str]  # exchange, routing key


@pytest.fixture
async def live(rabbit: "RabbitNode", vhost: "Vhost") -> list[dict[str, Any]]:
    """Declare the fleet's topology and read every binding that the broker then has."""
    link = Link(vhost.url, "test")
    try:
        await declare(link, fleet(types_of()))
    finally:
        await link.close()
    found: list[dict[str, Any]] = rabbit.api("GET", f"/bindings/{quote(vhost.name, safe='')}")
    return found


def described(action: str, party: str) -> set[Route]:
    """Return the routes on which the document says that a party sends or receives."""
    document = asyncapi()
    names = {
        operation["channel"]["$ref"].rpartition("/")[2]
        for operation in document["operations"].values()
        if operation["action"] == action and {"name": party} in operation["tags"]
    }
    channels = [document["channels"][name] for name in names]
    return {(each["bindings"]["amqp"]["exchange"]["name"], each["address"]) for each in channels}


def into_workers(live: list[dict[str, Any]]) -> set[Route]:
    """Return the routes by which events reach the workers' queues."""
    exchanges = ("twinlock.requests", "twinlock.events", "twinlock.answers")
    return {
        (each["source"], each["routing_key"])
        for each in live
        if each["source"] in exchanges and each["destination"].endswith(".in")
    }


def test_every_live_binding_is_described(live: list[dict[str, Any]]) -> None:
    """A worker receives nothing that the document does not tell of."""
    assert set() == into_workers(live) - described("receive", "worker")


def test_every_request_arrives(live: list[dict[str, Any]]) -> None:
    """Whatever the document lets publishers send is bound to a worker's queue."""
    assert set() == described("send", "publisher") - into_workers(live)


def test_every_exchange_is_there(rabbit: "RabbitNode", vhost: "Vhost", live: list[dict[str, Any]]) -> None:
    """Every exchange of the document exists, with the kind and durability that it says."""
    there = {each["name"]: each for each in rabbit.api("GET", f"/exchanges/{quote(vhost.name, safe='')}")}
    told = [channel["bindings"]["amqp"]["exchange"] for channel in asyncapi()["channels"].values()]

    assert told
    for exchange in told:
        found = there[exchange["name"]]
        assert (exchange["type"], exchange["durable"]) == (found["type"], found["durable"]), exchange["name"]
