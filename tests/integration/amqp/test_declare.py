"""The topology in a broker: declared again and again, differences told, workers without any right to declare."""

import asyncio
import json
import socket
from contextlib import closing
from pathlib import Path

import pytest

from cli.main import run
from events.amqp import names
from events.amqp.connection import Link
from events.amqp.declare import TopologyDiffers, declare
from events.amqp.topology import Queue, Topology, fleet
from events.amqp.transport import AmqpTransport
from events.amqp.trouble import BrokerGone, BrokerRefused
from schemas.routing import EVENTS_EXCHANGE
from tests.integration.amqp.fleet import TAKES, TIERS, WORKER, OpenTransport, news, soon, take
from tests.servers.rabbitmq import RabbitNode, Vhost
from workers.roster import types_of


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vhost: Vhost) -> Path:
    monkeypatch.setenv("TWINLOCK_HOME", str(tmp_path))
    monkeypatch.setenv("TWINLOCK_BROKER", vhost.url)
    return tmp_path


async def test_idempotent(fleet_vhost: Vhost, rabbit: RabbitNode) -> None:
    """Declaring again changes nothing, and everything that was to be is there."""
    before = _live(rabbit, fleet_vhost)
    link = Link(fleet_vhost.url, "again")
    declared = await declare(link, fleet(TAKES, TIERS))
    await link.close()

    assert before == _live(rabbit, fleet_vhost)
    assert before == {*declared.exchanges, *declared.queues, str(declared.bindings)}


def _live(node: RabbitNode, vhost: Vhost) -> set[str]:
    kinds = {kind: node.api("GET", f"/{kind}/{vhost.name}") for kind in ("exchanges", "queues", "bindings")}
    things = {one["name"] for kind in ("exchanges", "queues") for one in kinds[kind]}
    own = [one for one in kinds["bindings"] if one["source"]]
    return {name for name in things if name.startswith("twinlock.")} | {str(len(own))}


async def test_other_arguments_are_told(fleet_vhost: Vhost) -> None:
    """What exists with other arguments is named with both values, all of it at once, and stays as it is."""
    (tier,) = [queue for queue in fleet(TAKES, TIERS).queues if queue.name == names.retry_queue(WORKER, "1s")]
    changed = Topology(
        (),
        (
            Queue(tier.name, {**tier.arguments, "x-message-ttl": 7}),
            Queue(names.letter_queue(WORKER), {"x-queue-type": "classic"}),
            Queue("twinlock.fresh"),
        ),
        (),
    )
    link = Link(fleet_vhost.url, "differs")
    with pytest.raises(TopologyDiffers) as caught:
        await declare(link, changed)
    await link.close()

    assert 2 == len(caught.value.differences)
    assert "'x-message-ttl' for queue 'twinlock.one.retry.1s'" in caught.value.differences[0]
    assert "received '7' but current is '1000'" in caught.value.differences[0]
    assert "'twinlock.one.dlq'" in caught.value.differences[1]


async def test_without_the_right(worker_url: str) -> None:
    """A worker's login can't declare, and is told so."""
    link = Link(worker_url, "worker")
    with pytest.raises(BrokerGone, match=r"can't declare .* ACCESS_REFUSED"):
        await declare(link, fleet(TAKES, TIERS))
    await link.close()


async def test_worker_configures_nothing(transport: AmqpTransport) -> None:
    """A worker that may configure nothing publishes, takes, retries and gives up: it opens everything passively."""
    await transport.publish([news(1)])
    (incoming,) = await take(transport, 1)
    await incoming.retry(0.0, "trouble")
    (again,) = await take(transport, 1)
    await again.dead_letter("no hope")

    assert 1 == again.attempts


async def test_missing_exchange(open_transport: OpenTransport, rabbit: RabbitNode) -> None:
    """Where nothing was declared nothing is taken, and the command that declares is named."""
    bare = rabbit.vhost()
    transport = open_transport(rabbit.user(bare, WORKER, "^$", ".*", ".*"))
    with pytest.raises(BrokerRefused) as caught:
        await transport.outlet._exchange(EVENTS_EXCHANGE)

    assert [] == await transport.publish([news(1)])
    assert (404, "run: twinlock broker declare") == (caught.value.code, caught.value.hint)
    rabbit.drop(bare)


async def test_missing_queue(transport: AmqpTransport, caplog: pytest.LogCaptureFixture) -> None:
    """A worker whose queue is missing says what to run, and waits for it without ending."""
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(_next(transport))
        await soon(lambda: "run: twinlock broker declare" in caplog.text)
        assert not transport.healthy
        await transport.drain()

    assert waiting.result() is None


async def _next(transport: AmqpTransport) -> object:
    return await anext(transport.deliveries("nobody", 1), None)


def test_command(settings: Path, capsys: pytest.CaptureFixture[str], rabbit: RabbitNode, vhost: Vhost) -> None:
    """`broker declare` prints what exists, twice the same, and never the password."""
    texts = []
    for _ in range(2):
        assert 0 == run(["broker", "declare", "--json"])
        texts.append(capsys.readouterr().out)
    document = json.loads(texts[0])

    assert texts[0] == texts[1]
    assert {names.inbound(worker) for worker in types_of()} <= set(document["queues"])
    assert _live(rabbit, vhost) == {*document["exchanges"], *document["queues"], str(document["bindings"])}
    assert vhost.url.split("@")[0].split(":")[2] not in texts[0]


def test_command_embedded(settings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a broker there is nothing to declare: that is a matter of settings."""
    monkeypatch.setenv("TWINLOCK_BROKER", "embedded:")

    assert 2 == run(["broker", "declare"])
    assert "twinlock: the broker is embedded:, which needs nothing" in capsys.readouterr().err


def test_command_nobody_there(
    settings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A broker that is not there yet is waited for, and then it is one line, without the password."""
    with closing(socket.socket()) as nobody:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("TWINLOCK_BROKER", f"amqp://user:hunter2@127.0.0.1:{nobody.getsockname()[1]}")
        code = run(["broker", "declare", "--timeout", "1"])
    said = capsys.readouterr()

    assert 3 == code
    assert said.err.startswith("twinlock: nothing answers for RabbitMQ at 127.0.0.1:")
    assert "hunter2" not in said.err + said.out


@pytest.mark.parametrize("limit", ["unrouted", "rejected"])
async def test_rubbish_is_bounded(limit: str) -> None:
    """The queues that strangers can fill drop their oldest messages, by number, size and age."""
    (queue,) = [queue for queue in fleet(TAKES).queues if queue.name == f"twinlock.{limit}"]

    assert {"x-max-length", "x-max-length-bytes", "x-message-ttl"} <= set(queue.arguments)
    assert "drop-head" == queue.arguments["x-overflow"]
