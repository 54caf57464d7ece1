"""A fleet's topology in a virtual host of its own, workers' transports, and strangers with bare aio-pika."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel

from events.amqp.connection import Link
from events.amqp.declare import declare
from events.amqp.topology import fleet
from events.amqp.transport import AmqpSettings, AmqpTransport
from tests.integration.amqp.fleet import QUICK, READ, SOURCE, TAKES, TIERS, WORKER, WRITE, OpenTransport, Stranger
from tests.servers.proxy import Proxy
from tests.servers.rabbitmq import RabbitNode, Vhost
from twinlock.clock import SystemClock


@pytest.fixture
async def fleet_vhost(vhost: Vhost) -> Vhost:
    """Declare the topology of one worker."""
    link = Link(vhost.url, "declares")
    await declare(link, fleet(TAKES, TIERS))
    await link.close()
    return vhost


@pytest.fixture
def worker_url(rabbit: RabbitNode, fleet_vhost: Vhost) -> str:
    """Make the worker's own login."""
    return rabbit.user(fleet_vhost, WORKER, "^$", WRITE, READ)


@pytest.fixture
def portal_url(rabbit: RabbitNode, fleet_vhost: Vhost) -> str:
    """Make the login of a publisher from outside."""
    return rabbit.user(fleet_vhost, "portal", "^$", r"^twinlock\.requests$", "^$")


@pytest.fixture
async def open_transport(worker_url: str) -> AsyncIterator[OpenTransport]:
    """Open transports of the worker, each as its own process would."""
    opened: list[AmqpTransport] = []

    def _open(url: str = worker_url, settings: AmqpSettings = QUICK) -> AmqpTransport:
        opened.append(AmqpTransport(url, f"{WORKER}-{len(opened)}", SOURCE, SystemClock(), settings))
        return opened[-1]

    yield _open
    for transport in opened:
        await transport.close()


@pytest.fixture
def transport(open_transport: OpenTransport) -> AmqpTransport:
    """Open one transport."""
    return open_transport()


@pytest.fixture
def proxied_transport(
    open_transport: OpenTransport, worker_url: str, rabbit: RabbitNode, proxy: Proxy
) -> AmqpTransport:
    """Open a transport whose connections go through the proxy."""
    return open_transport(worker_url.replace(f":{rabbit.port}/", f":{proxy.port}/"))


@pytest.fixture
async def stranger() -> AsyncIterator[Stranger]:
    """Open channels as anybody with a login would."""
    async with AsyncExitStack() as stack:

        async def _open(url: str) -> AbstractChannel:
            connection = await stack.enter_async_context(await aio_pika.connect(url))
            return await connection.channel(publisher_confirms=True, on_return_raises=True)

        yield _open
