"""How many messages wait in a virtual host."""

import asyncio

import aio_pika

from tests.servers.rabbitmq import RabbitNode, Vhost


async def depths(node: RabbitNode, vhost: Vhost) -> dict[str, int]:
    """Return the queues in which a message waits, streams and what is one connection's own apart."""
    queues = await asyncio.to_thread(node.api, "GET", f"/queues/{vhost.name}?columns=name,exclusive")
    names = [each["name"] for each in queues if not each["exclusive"] and not each["name"].endswith(".log")]
    async with asyncio.timeout(30), await aio_pika.connect(vhost.url) as connection:
        channel = await connection.channel()
        found = [(await channel.declare_queue(name, passive=True)).declaration_result for name in names]
    return {str(each.queue): each.message_count for each in found if each.message_count}
