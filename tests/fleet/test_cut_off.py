"""Broker and database out of reach in the middle of steps: cut off, forgotten by the network, or standing still."""

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.fleet.installation import Detours, Fleet
from tests.servers.background import Line, line_to
from tests.servers.postgres import Postgres
from tests.servers.proxy import Proxy
from tests.servers.rabbitmq import RabbitNode

BROKER, DATABASE = "broker", "database"
Boxes = dict[str, Counter[bytes]]


@pytest.fixture(scope="module")
def lines(installation: Fleet, rabbit: RabbitNode, cluster: Postgres) -> Iterator[dict[str, Line]]:
    """Have every replica reach broker and database through a proxy alone."""
    with line_to(rabbit.port) as broker, line_to(cluster.port) as database:
        installation.dismiss()
        installation.detours = Detours(broker.proxy.port, database.proxy.port)
        yield {BROKER: broker, DATABASE: database}
        installation.dismiss()
        installation.detours = None


@pytest.fixture
def away(lines: dict[str, Line], fleet: Fleet) -> Fleet:
    """Return the fleet behind the proxies, at rest."""
    assert lines
    return fleet


def _begin(fleet: Fleet, boxes: Boxes) -> None:
    for address in boxes:
        fleet.ask("policy", "assign", "acme/main", "--mailbox", address, "--no-wait")
    fleet.in_work()


def _finished(fleet: Fleet, boxes: Boxes, there: list[object]) -> None:
    fleet.assert_sound(boxes)

    assert there == [replica for replica in fleet.replicas if replica.running]
    assert {2} == {fleet.generations()[address] for address in boxes}


def _nobody_ready(fleet: Fleet) -> None:
    fleet.until(lambda: not any(replica.ready for replica in fleet.replicas))


def _break_off(proxy: Proxy) -> None:
    proxy.budget = 5_000


@pytest.mark.parametrize("side", [BROKER, DATABASE])
def test_cut(away: Fleet, boxes: Boxes, lines: dict[str, Line], side: str) -> None:
    """Cut off in the middle of a frame, and again at every try, the same processes finish it once when that is over."""
    there: list[object] = list(away.replicas)
    _begin(away, boxes)
    lines[side].do(_break_off)
    _nobody_ready(away)
    lines[side].do(Proxy.heal)
    away.all_ready()

    _finished(away, boxes, there)


@pytest.mark.parametrize("side", [BROKER, DATABASE])
def test_half_open(away: Fleet, boxes: Boxes, lines: dict[str, Line], side: str) -> None:
    """Connections that a network forgot are replaced, and a lock that was taken through one is not kept."""
    there: list[object] = list(away.replicas)
    _begin(away, boxes)
    proxy = lines[side].proxy
    before = proxy.accepted
    lines[side].do(Proxy.strand)
    if side == BROKER:
        away.until(lambda: not proxy.stranded)  # both ends have found out, also of what lay idle

    _finished(away, boxes, there)
    assert before + len(there) <= proxy.accepted


def test_broker_stands_still(away: Fleet, boxes: Boxes, rabbit: RabbitNode) -> None:
    """A broker that stands still until everybody has given it up, and goes on, finds everybody consuming again."""
    there: list[object] = list(away.replicas)
    _begin(away, boxes)
    rabbit.pause()
    try:
        _nobody_ready(away)
    finally:
        rabbit.resume()
    away.all_ready()

    _finished(away, boxes, there)
