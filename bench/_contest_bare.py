"""Contender: aio-pika and asyncpg without anything between: hand off, one transaction a message, then acknowledge."""

import asyncio
import json

import aio_pika
import asyncpg
from aio_pika.abc import AbstractIncomingMessage

from bench._contest import CONCURRENCY, PREFETCH, QUEUE, addresses, row_of, wait_for_start


async def handle(local: "asyncio.Queue[AbstractIncomingMessage]", pool: "asyncpg.Pool") -> None:
    """Handle what was handed off, one message after the other."""
    while True:
        message = await local.get()
        event_id = json.loads(message.body)["id"]
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("INSERT INTO bench_inbox VALUES ($1, now())", event_id)
            await connection.execute("UPDATE bench_rows SET value = value + 1 WHERE id = $1", row_of(event_id))
        await message.ack()


async def main() -> None:
    """Work until killed."""
    where = addresses()
    pool = await asyncpg.create_pool(where.dsn, min_size=CONCURRENCY, max_size=CONCURRENCY)
    connection = await aio_pika.connect(where.broker)
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=PREFETCH)
    queue = await channel.get_queue(QUEUE)
    local: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
    await asyncio.to_thread(wait_for_start)
    await queue.consume(local.put)
    async with asyncio.TaskGroup() as group:
        for _ in range(CONCURRENCY):
            group.create_task(handle(local, pool))


if __name__ == "__main__":
    asyncio.run(main())
