"""The contenders of the throughput benchmark as their referee sees them: filled, started, and done."""

import asyncio
import subprocess
import sys
from typing import Protocol

import aio_pika
import asyncpg
from aio_pika import DeliveryMode
from aio_pika import Message as Outgoing
from yarl import URL

from bench import _contest_celery as celery_side
from bench._contest import QUEUE, SCHEMA, Addresses
from bench._contest_ours import SOURCE
from events.amqp.connection import Link
from events.amqp.declare import declare
from events.amqp.topology import fleet
from events.amqp.transport import AmqpTransport
from events.transport import Message
from schemas.envelope import enclose, serialise
from schemas.facts import ReencryptionWoken
from schemas.names import MAILBOX_REENCRYPTOR
from tests.servers.postgres import Postgres, migrate
from tests.servers.rabbitmq import RabbitNode, Vhost
from twinlock.clock import SystemClock

_LOOK_SECONDS = 0.02
Process = subprocess.Popen[str]


class Arena:
    """Hold the servers."""

    def __init__(self, postgres: Postgres, rabbit: RabbitNode) -> None:
        self.postgres = postgres
        self.rabbit = rabbit

    def place(self, name: str) -> Addresses:
        """Make a database and a virtual host."""
        return Addresses(self.rabbit.vhost().url, self.postgres.create(name))


class Contender(Protocol):
    """Empty a queue, one round after the other."""

    name: str

    async def fill(self, count: int) -> None:
        """Forget the last round, and put so many events into the queue."""
        ...

    def commands(self, processes: int) -> list[list[str]]:
        """Return what to start."""
        ...

    async def ready(self, running: list[Process]) -> None:
        """Return when nothing is left to do but to take events."""
        ...

    async def go(self, running: list[Process]) -> None:
        """Say go."""
        ...

    async def until_done(self, count: int) -> None:
        """Return when all is handled and nothing is left behind."""
        ...

    async def check(self, count: int) -> None:
        """Fail unless every event had its effect once."""
        ...


class Bare:
    """Be aio-pika and asyncpg alone; the others differ in what they say here."""

    name = "bare"
    module = "bench._contest_bare"
    done = "SELECT count(*) >= $1 FROM bench_inbox"
    forget: tuple[str, ...] = ()

    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        self.where = arena.place(self.name)
        self._prepared = False

    async def fill(self, count: int) -> None:
        """Publish to the queue."""
        if not self._prepared:
            await self.prepare()
            self._prepared = True
        await self._statements(*SCHEMA, *self.forget)
        await self.publish(count)

    async def prepare(self) -> None:
        """Do what only the first round needs."""

    async def publish(self, count: int) -> None:
        """Publish persistent messages that hold what ours hold."""
        async with await aio_pika.connect(self.where.broker) as connection:
            channel = await connection.channel()
            await channel.declare_queue(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
            for message in woken(count):
                body = Outgoing(message.body, delivery_mode=DeliveryMode.PERSISTENT)
                await channel.default_exchange.publish(body, QUEUE)

    def commands(self, processes: int) -> list[list[str]]:
        """Start one process each."""
        return [[sys.executable, "-m", self.module, self.where.broker, self.where.database]] * processes

    async def ready(self, running: list[Process]) -> None:
        """Read a line of each."""
        for process in running:
            assert process.stdout is not None  # noqa: S101  # narrows the type
            if not await asyncio.to_thread(process.stdout.readline):
                raise RuntimeError(f"{self.name} does not start")

    async def go(self, running: list[Process]) -> None:
        """Write a line to each."""
        for process in running:
            assert process.stdin is not None  # noqa: S101  # narrows the type
            process.stdin.write("go\n")
            process.stdin.flush()

    async def until_done(self, count: int) -> None:
        """Look again and again."""
        connection = await asyncpg.connect(self.where.dsn)
        try:
            while not await connection.fetchval(self.done, count):  # noqa: ASYNC110  # other processes do it
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            await connection.close()

    async def check(self, count: int) -> None:
        """Add the rows up."""
        connection = await asyncpg.connect(self.where.dsn)
        found = await connection.fetchval("SELECT sum(value) FROM bench_rows")
        await connection.close()
        if found != count:
            raise RuntimeError(f"{self.name}: {count} events had {found} effects")

    async def _statements(self, *statements: str) -> None:
        connection = await asyncpg.connect(self.where.dsn)
        for statement in statements:
            await connection.execute(statement)
        await connection.close()


class Ours(Bare):
    """Be a worker of the fleet, with the fleet's topology and its own login."""

    name = "ours"
    module = "bench._contest_ours"
    done = "SELECT (SELECT count(*) FROM inbox) >= $1 AND NOT EXISTS (SELECT FROM outbox)"
    forget = ("TRUNCATE inbox, outbox",)

    async def prepare(self) -> None:
        """Migrate, declare, and make the login."""
        await migrate(self.where.database)
        link = Link(self.where.broker, "declares")
        await declare(link, fleet({MAILBOX_REENCRYPTOR: [ReencryptionWoken.type]}))
        await link.close()
        vhost = Vhost(URL(self.where.broker).path.strip("/"), self.where.broker)
        url = await asyncio.to_thread(self.arena.rabbit.user, vhost, MAILBOX_REENCRYPTOR, "^$", ".*", ".*")
        self.where = Addresses(url, self.where.database)

    async def publish(self, count: int) -> None:
        """Publish through the transport."""
        transport = AmqpTransport(self.where.broker, "fill", SOURCE, SystemClock())
        messages = woken(count)
        for start in range(0, count, 100):
            batch = messages[start : start + 100]
            if len(await transport.publish(batch)) < len(batch):
                raise RuntimeError("the queue can't be filled")
        await transport.close()


class CeleryWorkers(Bare):
    """Be Celery: its pool is as large as the others' number of processes."""

    name = "celery"

    async def publish(self, count: int) -> None:
        """Send the tasks."""
        await asyncio.to_thread(celery_side.fill, self.where.broker, count)

    def commands(self, processes: int) -> list[list[str]]:
        """Start one worker with its pool."""
        settings = [f"BENCH_BROKER={self.where.broker}", f"BENCH_DATABASE={self.where.dsn}"]
        worker = ["worker", "-P", "prefork", "-c", str(processes), "-Q", "idle", "-l", "ERROR", "--without-mingle"]
        return [["env", *settings, sys.executable, "-m", "celery", "-A", celery_side.__name__, *worker]]

    async def ready(self, running: list[Process]) -> None:
        """Ask it."""
        await asyncio.to_thread(celery_side.wait_until_there, self.where.broker)

    async def go(self, running: list[Process]) -> None:
        """Give it the queue."""
        await asyncio.to_thread(celery_side.begin, self.where.broker)


def woken(count: int) -> list[Message]:
    """Return so many events."""
    return [_woken(f"e-{number}") for number in range(count)]


def _woken(event_id: str) -> Message:
    event = ReencryptionWoken(slot=0)
    time = SystemClock().now()
    envelope = enclose(event, event_id=event_id, source=SOURCE, time=time, correlation=None, causation=None)
    return Message(MAILBOX_REENCRYPTOR, SOURCE, event_id, event.type, event_id, serialise(envelope))
