"""Contender: a worker as `worker run` builds it, with one small handler that changes a row and tells one event."""

import asyncio

from sqlalchemy import Column, Integer, MetaData, Table, bindparam, update

from bench._contest import CONCURRENCY, PREFETCH, addresses, row_of, wait_for_start
from events.amqp.transport import AmqpTransport
from events.consumer import ConsumerRuntime, ConsumerSettings
from events.handler import Received
from events.ladder import Ladder
from events.relay import Relay
from schemas.event import Event
from schemas.facts import ReencryptionCompleted, ReencryptionWoken
from schemas.names import MAILBOX_REENCRYPTOR
from twinlock.clock import SystemClock
from twinlock.store.clock import DatabaseClock
from twinlock.store.engine import open_engine
from twinlock.store.unit import Store, Unit

SOURCE = "urn:twinlock:bench"

rows = Table("bench_rows", MetaData(), Column("id", Integer, primary_key=True), Column("value", Integer))
_COUNT = update(rows).where(rows.c.id == bindparam("at_id")).values(value=rows.c.value + 1)
_TOLD = ReencryptionCompleted(mailbox="bench@acme.example", tenant="acme", policy="p", generation=1, items=1)


class Counting:
    """Count an event in its row."""

    consumer = MAILBOX_REENCRYPTOR
    handles: type[Event] = ReencryptionWoken

    async def prepare(self, _event: ReencryptionWoken, received: Received) -> int:
        """Find the row."""
        return row_of(received.envelope.id)

    async def commit(self, unit: Unit, plan: int) -> None:
        """Change the row and tell."""
        unit.queue(_COUNT, [{"at_id": plan}])
        unit.emit(_TOLD)


async def main() -> None:
    """Work until killed."""
    where = addresses()
    clock = DatabaseClock(SystemClock())
    store = Store(open_engine(where.database), clock, SOURCE, MAILBOX_REENCRYPTOR)
    transport = AmqpTransport(where.broker, "bench", SOURCE, clock)
    settings = ConsumerSettings(concurrency=CONCURRENCY, prefetch=PREFETCH)
    consumers = ConsumerRuntime(store, transport, [Counting()], clock, Ladder(), settings)
    async with store.read() as reader:
        await reader.row(rows.select().limit(1))
    await asyncio.to_thread(wait_for_start)
    async with asyncio.TaskGroup() as group:
        group.create_task(Relay(store, transport, clock).run())
        group.create_task(consumers.run())


if __name__ == "__main__":
    asyncio.run(main())
