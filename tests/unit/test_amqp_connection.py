"""A connection to the broker that is tried again and again by those who have little time."""

import asyncio
from contextlib import suppress

from events.amqp.connection import Link, LinkSettings
from events.amqp.trouble import BrokerGone

SETTINGS = LinkSettings(first_pause=0.3, longest_pause=0.3)


async def test_impatient_callers_get_through() -> None:
    """The pause after a failure ends for somebody who never waits as long: a check of health finds a broker again."""
    tries = 0

    async def refuse(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal tries
        tries += 1
        writer.close()

    async with asyncio.timeout(30), await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        link = Link(f"amqp://somebody@127.0.0.1:{port}/", "a test", SETTINGS, jitter=lambda: 1.0)
        while tries < 3:
            with suppress(TimeoutError, BrokerGone):
                async with asyncio.timeout(0.1):
                    await link.channel(confirms=False)
        await link.close()
