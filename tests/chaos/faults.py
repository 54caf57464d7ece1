"""What goes wrong: each fault begins, says what it does, and ends with its block."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from random import Random

from events.amqp import names
from events.amqp.transport import AmqpTransport
from events.transport import Message
from schemas.envelope import enclose, serialise
from schemas.facts import ReencryptionWoken
from schemas.names import MAILBOX_REENCRYPTOR, TIK_CACHE_REFRESHER
from tests.chaos.stage import Stage, Vault
from tests.fleet.installation import WORKERS
from tests.servers.proxy import Proxy
from twinlock.clock import SystemClock
from twinlock.keys.ports import Outcome
from twinlock.store.unit import new_id

Happening = AbstractContextManager[str]
_DAY = 86400.0
_SEALED = Outcome.UNCLEAR  # by somebody's hand: for engineers, as long as nobody knows more
_5XX = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


@dataclass(frozen=True)
class Fault:
    """Name a fault and what it strikes: at one place, one strikes at a time."""

    name: str
    place: str
    strike: Callable[[Stage, Random], Happening]

    @property
    def places(self) -> set[str]:
        """Return every place that it strikes."""
        return set(self.place.split(" and "))


@contextmanager
def killed_workers(stage: Stage, order: Random) -> Iterator[str]:
    """Kill some replicas as crashes would; the supervisor starts others when it is over."""
    victims = order.sample(stage.fleet.replicas, max(1, len(stage.fleet.replicas) // 4))
    for replica in victims:
        stage.kill(replica)
    yield ", ".join(sorted(replica.worker for replica in victims))


@contextmanager
def killed_kind(stage: Stage, order: Random) -> Iterator[str]:
    """Kill every replica of one worker."""
    worker = order.choice(WORKERS)
    stage.fleet.leave(worker)
    yield f"every {worker}"


@contextmanager
def killed_node(stage: Stage, order: Random) -> Iterator[str]:
    """Kill a broker node."""
    number = order.randrange(len(stage.nodes))
    stage.nodes[number].kill()
    if len(stage.nodes) > 1:
        stage.up()
    try:
        yield f"node {number + 1} of {len(stage.nodes)}"
    finally:
        stage.nodes[number].start()
        stage.up()


@contextmanager
def stalled_node(stage: Stage, order: Random) -> Iterator[str]:
    """Have a broker node stand still: connections stay open and nothing answers.

    A node that a cluster of 3.10 has given up meanwhile may stay apart until somebody starts it again.
    """
    number = order.randrange(len(stage.nodes))
    stage.nodes[number].pause()
    if len(stage.nodes) > 1:
        stage.fleet.node = stage.nodes[number - 1]
    try:
        yield f"node {number + 1} of {len(stage.nodes)}"
    finally:
        stage.nodes[number].resume()
        if len(stage.nodes) > 1:
            stage.nodes[number].kill()
            stage.nodes[number].start()


@contextmanager
def memory_alarm(stage: Stage, _order: Random) -> Iterator[str]:
    """Have a broker node be out of memory, which blocks every publisher of the whole broker."""
    node = stage.up()
    node.ctl("set_vm_memory_high_watermark", "0.0000001")
    try:
        yield "publishers are blocked"
    finally:
        node.ctl("set_vm_memory_high_watermark", "absolute", "2GB")


@contextmanager
def full_queue(stage: Stage, order: Random) -> Iterator[str]:
    """Have the queue of a worker that lies killed take nothing after its first message."""
    worker = order.choice([MAILBOX_REENCRYPTOR, "alert_emitter", "dep_assigner", "site_reencryptor"])
    queue = names.inbound(worker)
    stage.up()
    stage.fleet.leave(worker)
    with stage.fleet.limited(queue, 1):
        yield queue


@contextmanager
def full_of_requests(stage: Stage, _order: Random) -> Iterator[str]:
    """Have an outsider fill the queue of a worker that lies killed, until it is told that its request is not taken."""
    queue = names.inbound(MAILBOX_REENCRYPTOR)
    stage.up()
    stage.fleet.leave(MAILBOX_REENCRYPTOR)
    with stage.fleet.limited(queue, 1):
        yield stage.fill()


@contextmanager
def killed_database(stage: Stage, _order: Random) -> Iterator[str]:
    """Kill the database; it comes back with all that it has committed."""
    stage.cluster.kill()
    try:
        yield "killed"
    finally:
        stage.cluster.start()


@contextmanager
def stopped_database(stage: Stage, _order: Random) -> Iterator[str]:
    """Restart the database in good order: everybody is disconnected."""
    stage.cluster.stop()
    stage.cluster.start()
    yield "restarted"


def cut(side: str, how: Callable[[Proxy], None]) -> Callable[[Stage, Random], Happening]:
    """Have the workers' way to broker or database misbehave."""

    @contextmanager
    def happening(stage: Stage, _order: Random) -> Iterator[str]:
        line = stage.broker if side == "broker" else stage.database
        carried = line.proxy.carried
        line.do(how)
        try:
            yield f"{carried} connections"
        finally:
            line.do(Proxy.heal)

    return happening


def _break_off(proxy: Proxy) -> None:
    proxy.budget = 5_000


def _late(proxy: Proxy) -> None:
    proxy.delay = 4.0  # longer than anybody waits for a vault


def _says_503(proxy: Proxy) -> None:
    proxy.says = _5XX


def _struck(stage: Stage, order: Random) -> list[int]:
    """Choose a vault, or both."""
    return order.choice([[0], [1], [0, 1]])


def _named(chosen: list[int]) -> str:
    return " and ".join(("left", "right")[number] for number in chosen)


def vault(
    begin: Callable[[Vault], None], end: Callable[[Vault], None], outcome: Outcome = Outcome.UNAVAILABLE
) -> Callable[[Stage, Random], Happening]:
    """Have a vault, or both, be in trouble, which is to be taken for this outcome."""

    @contextmanager
    def happening(stage: Stage, order: Random) -> Iterator[str]:
        chosen = _struck(stage, order)
        for number in chosen:
            begin(stage.vaults[number])
        stage.ailing = dict.fromkeys(chosen, outcome)
        try:
            yield _named(chosen)
        finally:
            for number in chosen:
                end(stage.vaults[number])
            stage.ailing = {}

    return happening


def _healed(vault: Vault) -> None:
    vault.line.do(Proxy.heal)


@contextmanager
def wrong_clocks(stage: Stage, order: Random) -> Iterator[str]:
    """Set the wall clocks of all workers forward or back by up to a day, and right again in the end."""
    seconds = order.choice([-_DAY, -3600.0, -61.0, 61.0, 3600.0, _DAY])
    stage.set_clocks(seconds)
    try:
        yield f"{seconds:+.0f} s"
    finally:
        stage.set_clocks(0.0)


@contextmanager
def forged_fact(stage: Stage, _order: Random) -> Iterator[str]:
    """Have one worker's login tell a fact that is another's to tell."""
    event, clock = ReencryptionWoken(slot=0), SystemClock()
    envelope = enclose(event, event_id=new_id(), source="urn:x", time=clock.now(), correlation=None, causation=None)
    message = Message(TIK_CACHE_REFRESHER, "urn:x", envelope.id, event.type, envelope.correlation, serialise(envelope))
    url = stage.up().url(stage.fleet.vhost.name, TIK_CACHE_REFRESHER)

    async def publish() -> list[Message]:
        transport = AmqpTransport(url, "test", "urn:x", clock)
        try:
            return list(await transport.publish([message]))
        finally:
            await transport.close()

    stage.forged.add(envelope.id)
    taken = asyncio.run(publish())
    assert [message] == taken
    yield f"event {envelope.id}"


FAULTS = (
    Fault("workers killed", "workers", killed_workers),
    Fault("every replica of a worker killed", "workers", killed_kind),
    Fault("broker node killed", "broker", killed_node),
    Fault("broker node stalled", "broker", stalled_node),
    Fault("broker out of memory", "broker", memory_alarm),
    Fault("queue full", "broker and workers", full_queue),
    Fault("requests refused", "broker and workers", full_of_requests),
    Fault("forged fact", "broker", forged_fact),
    Fault("network to broker cut", "broker", cut("broker", _break_off)),
    Fault("broker connections half open", "broker", cut("broker", Proxy.strand)),
    Fault("database killed", "database", killed_database),
    Fault("database restarted", "database", stopped_database),
    Fault("network to database cut", "database", cut("database", _break_off)),
    Fault("database connections half open", "database", cut("database", Proxy.strand)),
    Fault("vault sealed", "vault", vault(lambda each: each.server.seal(), lambda each: each.server.unseal(), _SEALED)),
    Fault("vault slow", "vault", vault(lambda each: each.line.do(_late), _healed)),
    Fault("vault says 503", "vault", vault(lambda each: each.line.do(_says_503), _healed)),
    Fault("clocks stepped", "clock", wrong_clocks),
)
