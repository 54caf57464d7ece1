"""The guide for outside publishers does what it says, at a real broker, with nothing but its own programs."""

import asyncio
import os
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import aio_pika
import pytest
from aiormq.exceptions import ChannelAccessRefused

from cli.settings import Settings, load_settings
from cli.wiring import Parts, open_parts
from events.amqp.connection import Link
from events.amqp.declare import declare
from events.amqp.topology import fleet
from events.amqp.transport import AmqpTransport
from events.consumer import ConsumerRuntime
from events.ladder import Ladder
from events.relay import Relay
from schemas.names import DEP_ASSIGNER
from tests.guides import execute, programs, steps, write_files
from workers.roster import handlers_of

if TYPE_CHECKING:
    from tests.servers.rabbitmq import RabbitNode, Vhost

pytestmark = pytest.mark.servers

GUIDE = Path(__file__).parents[2] / "docs" / "publishing.md"
CUSTOMERS = """
twinlock init
twinlock tenant add acme
twinlock tenant add rival
twinlock key create local://left/a
twinlock key create local://right/b
twinlock policy create --tenant acme --name main --workload mailbox --key local://left/a --key local://right/b
twinlock policy create --tenant rival --name main --workload mailbox --key local://left/a --key local://right/b
twinlock mailbox add ann@acme.example --tenant acme
"""


@asynccontextmanager
async def working(parts: Parts, url: str) -> AsyncIterator[None]:
    """Run the DEP assigner on the home's database and the broker, as its process in a fleet does."""
    parts.store.sender = DEP_ASSIGNER
    transport = AmqpTransport(url, DEP_ASSIGNER, parts.store.source, parts.clock)
    handlers = handlers_of(parts.workplace, [DEP_ASSIGNER])
    runtime = ConsumerRuntime(parts.store, transport, handlers, parts.clock, Ladder())
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(runtime.run())
            relaying = group.create_task(Relay(parts.store, transport, parts.clock).run())
            yield
            await runtime.drain(10.0)
            relaying.cancel()
    finally:
        await transport.close()


async def prepare(rabbit: "RabbitNode", vhost: "Vhost", settings: Settings) -> str:
    """Declare the topology, and return the worker's URL."""
    async with open_parts(settings) as parts:
        types = [handler.handles.type for handler in handlers_of(parts.workplace, [DEP_ASSIGNER])]
    link = Link(vhost.url, "declares")
    try:
        await declare(link, fleet({DEP_ASSIGNER: types}))
    finally:
        await link.close()
    return rabbit.user(vhost, DEP_ASSIGNER, "^$", ".*", r"^twinlock\.dep_assigner\..*$")


async def refuse_others(url: str) -> None:
    """See that the broker itself takes no request but those that the login may ask for, whatever it is bound to."""
    async with await aio_pika.connect(url) as connection:
        for key in ("move.requested.v1", "purge.requested.v1", "#"):
            channel = await connection.channel()
            exchange = await channel.get_exchange("twinlock.requests")
            with pytest.raises(ChannelAccessRefused):
                await exchange.publish(aio_pika.Message(b"{}"), key)


async def test_guide(rabbit: "RabbitNode", vhost: "Vhost", tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who types the guide from top to bottom gets its requests carried out, and the very answers that it shows."""
    password = secrets.token_hex(8)
    environment = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "TWINLOCK_HOME": str(tmp_path / "home"),
        "PASSWORD": password,
        "VHOST": vhost.name,
        "MANAGEMENT_PORT": str(rabbit._http),
        "AMQP_URL": f"amqp://portal:{password}@127.0.0.1:{rabbit.port}/{vhost.name}",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    write_files(GUIDE, tmp_path)
    for line in CUSTOMERS.strip().splitlines():
        await execute(f"umask 077; {line}", rabbit, tmp_path)
    settings = load_settings(tmp_path / "home")
    url = await prepare(rabbit, vhost, settings)
    try:
        for step in steps(GUIDE):
            if step.prints is None:
                await execute(step.line, rabbit, tmp_path)
                continue
            async with open_parts(settings) as parts, working(parts, url):
                assert step.prints == await execute(step.line, rabbit, tmp_path)
        await refuse_others(environment["AMQP_URL"])
    finally:
        rabbit.api("DELETE", "/users/portal")


def test_what_is_run() -> None:
    """Every program of the guide is run by one of its commands, and one of them shows what comes of all."""
    lines = [step.line for step in steps(GUIDE)]

    assert programs(GUIDE) == {word for line in lines for word in line.split() if word.endswith(".py")}
    assert 1 == len([step for step in steps(GUIDE) if step.prints])
