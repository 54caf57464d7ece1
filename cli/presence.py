"""See in the broker what waits, and which workers run somewhere."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from cli.failures import TimedOut
from cli.settings import Settings
from events.amqp import names
from events.amqp.connection import Link
from events.amqp.publishing import missing
from events.amqp.trouble import BrokerGone, BrokerRefused, bounded, silent
from twinlock.custody.remote.ports import Lane
from twinlock.errors import TwinlockError
from workers.roster import ROSTER

LISTENERS = tuple(worker for worker, duties in ROSTER.items() if duties.listens)
_MISSING = 404
_GLANCE_SECONDS = 5.0
_MOMENT_SECONDS = 2.0  # of a command whose time is up already


@dataclass(frozen=True, slots=True)
class Seen:
    """Hold how much waits in a queue, and how many take from it."""

    messages: int
    consumers: int


@dataclass(frozen=True, slots=True)
class Glance:
    """Hold what can be seen, and what kept it from being more."""

    queues: Mapping[str, Seen]
    trouble: TwinlockError | None = None


async def look(settings: Settings, worker: str) -> Seen:
    """Look at the queue from which a worker takes, if any; raise a `BrokerGone`."""
    link = Link(settings.broker, f"looks for {worker}")
    queue = _queue_of(worker)
    try:
        if not ROSTER[worker].listens:
            await link.channel(confirms=False)
            return Seen(0, 0)
        return await _look(link, queue)
    except BrokerRefused as refused:
        raise missing("queue", queue) if refused.code == _MISSING else refused from None
    finally:
        await link.close()


async def consumers_of(settings: Settings, worker: str, seconds: float) -> int:
    """Return how many processes take what is meant for a worker; raise a `BrokerGone`, or `TimedOut`."""
    try:
        async with asyncio.timeout(seconds):
            return (await look(settings, worker)).consumers
    except TimeoutError:
        raise TimedOut(silent(settings.broker).detail, hint="give it more with --timeout") from None


async def glance(settings: Settings, seconds: float = _GLANCE_SECONDS) -> Glance:
    """Return what can be seen of every worker's queue, and of what nobody took."""
    wanted = {worker: _queue_of(worker) for worker in LISTENERS} | {
        "unrouted": names.UNROUTED,
        "rejected": names.REJECTED,
    }
    link = Link(settings.broker, "status")
    found: dict[str, Seen] = {}
    try:
        async with asyncio.timeout(seconds):
            for name, queue in wanted.items():
                await _note(link, name, queue, found)
    except BrokerGone as gone:
        return Glance(found, gone)
    except TimeoutError:
        return Glance(found, silent(settings.broker))
    finally:
        await link.close()
    return Glance(found)


async def obstacle(settings: Settings) -> TwinlockError | None:
    """Say what keeps the fleet from working, as far as the broker tells: it is away, or nobody runs a worker."""
    seen = await glance(settings, _MOMENT_SECONDS)
    if seen.trouble is not None:
        return seen.trouble
    for worker in LISTENERS:
        if worker not in seen.queues:
            return missing("queue", _queue_of(worker))
        if not seen.queues[worker].consumers:
            return TwinlockError(f"{worker} is not running", hint=f"start it: twinlock worker run {worker}")
    return None


def replicas(seen: Glance) -> str:
    """Say of each worker how many processes run it."""
    if seen.trouble is not None:
        return f"not seen: {seen.trouble.detail}"
    queues = seen.queues
    return ", ".join(f"{name}: {queues[name].consumers if name in queues else 'not declared'}" for name in LISTENERS)


async def _note(link: Link, name: str, queue: str, found: dict[str, Seen]) -> None:
    try:
        found[name] = await _look(link, queue)
    except BrokerRefused:
        return  # not declared, or not for this login to see


def _queue_of(worker: str) -> str:
    return names.inbound(worker) if ROSTER[worker].takes else names.lane_queue(Lane.USER)


async def _look(link: Link, queue: str) -> Seen:
    channel = await link.channel(confirms=False)
    found = await bounded(channel.declare_queue(queue, passive=True), link.settings.call)
    return Seen(found.declaration_result.message_count or 0, found.declaration_result.consumer_count or 0)
