"""What differs between the transports for workers that run in one process."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Protocol

from sqlalchemy import func, select

from events.amqp import access
from events.amqp.collector import Collector
from events.amqp.connection import Link
from events.amqp.declare import declare
from events.amqp.topology import fleet
from events.amqp.transport import AmqpSettings, AmqpTransport
from events.embedded import EmbeddedTransport
from events.transport import Transport
from schemas.names import OPERATOR, TIK_CACHE_REFRESHER
from tests.servers.depths import depths
from tests.servers.rabbitmq import RabbitNode, Vhost
from twinlock.store.tables.bus import deliveries
from twinlock.store.unit import LOCAL_PUBLISHER, Store
from workers.roster import ROSTER, Handlers, routes_of, types_of
from workers.runtime import Loop

TIERS = (0.02, 0.03, 0.04, 0.05, 0.06)  # as many as the real ladder has, so that as many failures end it

Teams = Sequence[tuple[str, Sequence[str]]]  # who publishes for which workers


class Line(Protocol):
    """Carry events. `asks` and `tells` are the senders of requests and of the custodian's facts."""

    asks: str
    tells: str
    teams: Teams

    async def lay(self) -> None:
        """Make what has to be there before anybody works."""
        ...

    def transport(self, stack: AsyncExitStack, store: Store, handlers: Handlers) -> tuple[Transport, Sequence[Loop]]:
        """Open a transport for a team, and return what runs beside its workers."""
        ...

    async def left(self, store: Store) -> int:
        """Count what is on its way, whoever it is for."""
        ...


class EmbeddedLine:
    """Carry events in the database: one fleet runs all workers."""

    asks = tells = LOCAL_PUBLISHER
    teams: Teams = ((LOCAL_PUBLISHER, tuple(ROSTER)),)

    async def lay(self) -> None:
        """Find everything made."""

    def transport(self, stack: AsyncExitStack, store: Store, handlers: Handlers) -> tuple[Transport, Sequence[Loop]]:
        """Open the transport."""
        return EmbeddedTransport(store, store.clock, routes_of(handlers)), ()

    async def left(self, store: Store) -> int:
        """Count the deliveries."""
        async with store.read() as reader:
            return int(await reader.scalar(select(func.count()).select_from(deliveries)))


class BrokerLine:
    """Carry events through RabbitMQ: every worker has its own login, connections and relay."""

    asks, tells = OPERATOR, TIK_CACHE_REFRESHER
    teams: Teams = tuple((worker, (worker,)) for worker in ROSTER)

    def __init__(self, node: RabbitNode, vhost: Vhost) -> None:
        self._node = node
        self._vhost = vhost

    async def lay(self) -> None:
        """Declare the topology, with a short ladder."""
        link = Link(self._vhost.url, "declares")
        await declare(link, fleet(types_of(), TIERS))
        await link.close()

    def transport(self, stack: AsyncExitStack, store: Store, handlers: Handlers) -> tuple[Transport, Sequence[Loop]]:
        """Open the transport of a login, and collect its dead letters where it can have any."""
        given = access.of_operator() if store.sender == OPERATOR else access.of_worker(store.sender)
        url = self._node.user(self._vhost, given.login, given.configure, given.write, given.read)
        opened = AmqpTransport(url, given.login, store.source, store.clock, AmqpSettings(tiers=TIERS))
        stack.push_async_callback(opened.close)
        collector = Collector(opened, store, store.sender)
        return opened, (collector.collect, collector.put_back) if handlers else ()

    async def left(self, store: Store) -> int:
        """Count the messages in all queues."""
        return sum((await depths(self._node, self._vhost)).values())
