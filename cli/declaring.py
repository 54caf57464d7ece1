"""Declare what a fleet needs in RabbitMQ."""

import asyncio
import os

from cli.failures import TimedOut
from events.amqp.connection import Link
from events.amqp.declare import Declared, declare
from events.amqp.topology import fleet
from events.amqp.trouble import BrokerGone, NotReached
from workers.roster import types_of


async def declared_on(url: str, timeout: float) -> Declared:
    """Declare the topology of the fleet, and wait for a broker that is not there yet; raise `TimedOut`."""
    link = Link(url, f"broker declare {os.getpid()}")
    gone: BrokerGone = BrokerGone("the broker did not take the declarations in time")
    try:
        async with asyncio.timeout(timeout):
            while True:
                try:
                    return await declare(link, fleet(types_of()))
                except NotReached as error:
                    gone = error  # it may be starting as well; the link waits longer after every failure
    except TimeoutError:
        raise TimedOut(gone.detail, hint=gone.hint or "give it more time with --timeout") from None
    finally:
        await link.close()
