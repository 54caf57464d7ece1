"""The guide for subscribers does what it says, at a real broker, with nothing but its own programs."""

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

from events.amqp.access import of_worker
from events.amqp.connection import Link
from events.amqp.declare import declare
from events.amqp.topology import fleet
from events.amqp.transport import AmqpTransport
from events.consumer import ConsumerRuntime
from events.ladder import Ladder
from events.relay import Relay
from schemas.identifiers import PolicyState
from schemas.names import ALERT_EMITTER, OPERATOR, TIK_CACHE_REFRESHER
from tests.guides import execute, programs, steps, write_files
from twinlock.custody.revocation import revocations
from twinlock.store.unit import Cause, Store
from workers.alert_emitter.hearing import HEARD, Hear
from workers.alert_emitter.reading import listing
from workers.roster import Handlers, types_of

if TYPE_CHECKING:
    from tests.integration.conftest import World
    from tests.servers.rabbitmq import RabbitNode, Vhost

pytestmark = pytest.mark.servers

GUIDE = Path(__file__).parents[2] / "docs" / "subscribing.md"


@pytest.fixture
async def declared(vhost: "Vhost") -> None:
    """Declare the topology of a fleet."""
    link = Link(vhost.url, "declares")
    try:
        await declare(link, fleet(types_of()))
    finally:
        await link.close()


def beside(store: Store, login: str) -> Store:
    """Return a store on the same database as another process has it, with its own login."""
    return Store(store.engine, store.clock, store.source, login)


@asynccontextmanager
async def working(world: "World", rabbit: "RabbitNode", vhost: "Vhost") -> AsyncIterator[None]:
    """Run the alert emitter, and send off what a custodian tells, each with the rights that it has in a fleet."""
    transports = {}
    for login in (ALERT_EMITTER, TIK_CACHE_REFRESHER):
        access = of_worker(login)
        url = rabbit.user(vhost, login, access.configure, access.write, access.read)
        transports[login] = AmqpTransport(url, login, world.store.source, world.store.clock)
    own = beside(world.store, ALERT_EMITTER)
    handlers: Handlers = [Hear(event) for event in HEARD]
    runtime = ConsumerRuntime(own, transports[ALERT_EMITTER], handlers, world.clock, Ladder())
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(runtime.run())
            relays = [group.create_task(sending(world.store, login, each)) for login, each in transports.items()]
            yield
            await runtime.drain(10.0)
            for relay in relays:
                relay.cancel()
    finally:
        for transport in transports.values():
            await transport.close()


async def sending(store: Store, login: str, transport: AmqpTransport) -> None:
    """Publish what a login has in the outbox, on a clock that stands still."""
    relay = Relay(beside(store, login), transport, store.clock)
    while True:
        await relay.pass_once()
        await asyncio.sleep(0.05)


async def kill_switch(world: "World") -> None:
    """Have the operator revoke a policy and, once that alert is open, restore it, and a custodian tell.

    Nothing keeps two events of one policy in order on their way: who hears of the end first opens no alert.
    """
    for state in (PolicyState.REVOKED, PolicyState.ACTIVE):
        if state is PolicyState.ACTIVE:
            await opened(world.store)
        world.clock.advance(1)
        async with beside(world.store, OPERATOR).begin(Cause("kill-switch")) as unit:
            done = await revocations.change(unit, "policy-p", state, None)
        async with beside(world.store, TIK_CACHE_REFRESHER).begin(Cause("kill-switch")) as unit:
            await revocations.announce(unit, done.number)


async def opened(store: Store) -> None:
    """Wait until an alert is open."""
    async with asyncio.timeout(30):
        while True:
            async with store.read() as reader:
                if await listing(reader, only_open=True):
                    return
            await asyncio.sleep(0.05)


@pytest.fixture
def shell(rabbit: "RabbitNode", vhost: "Vhost", monkeypatch: pytest.MonkeyPatch) -> str:
    """Set what the guide's commands read, and return the subscriber's URL."""
    password = secrets.token_hex(8)
    url = f"amqp://siem:{password}@127.0.0.1:{rabbit.port}/{vhost.name}"
    environment = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PASSWORD": password,
        "VHOST": vhost.name,
        "MANAGEMENT_PORT": str(rabbit._http),
        "AMQP_URL": url,
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return url


async def test_guide(
    world: "World", rabbit: "RabbitNode", vhost: "Vhost", declared: None, shell: str, tmp_path: Path
) -> None:
    """Who types the guide from top to bottom gets its tenant's alerts, as it shows them, and can bind no others."""
    write_files(GUIDE, tmp_path)
    try:
        async with working(world, rabbit, vhost):
            typed = steps(GUIDE)
            reads = next(step for step in typed if step.prints)
            for step in typed:
                if step is reads:
                    await kill_switch(world)
                if step.prints is None:
                    await execute(step.line, rabbit, tmp_path)
                    continue

                assert step.prints.replace("acme/main", "acme/policy-p") == await execute(step.line, rabbit, tmp_path)
        for key in ("alert.#", "alert.customer.rival.#", "alert.engineering.acme.#", "alert.*.acme.#"):
            with pytest.raises(ChannelAccessRefused):
                await bind(shell, key)
    finally:
        rabbit.api("DELETE", "/users/siem")


async def bind(url: str, key: str) -> None:
    async with asyncio.timeout(30), await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        queue = await channel.get_queue("siem.alerts")
        await queue.bind("twinlock.alerts", key)


def test_what_is_run() -> None:
    """Every program of the guide is run by one of its commands, and each way to read shows what comes of all."""
    lines = [step.line for step in steps(GUIDE)]

    assert programs(GUIDE) == {word for line in lines for word in line.split() if word.endswith(".py")}
    assert 2 == len([step for step in steps(GUIDE) if step.prints])
