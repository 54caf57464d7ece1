"""See in the broker what waits, and which workers run somewhere."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cli.failures import TimedOut
from cli.settings import Settings
from events.amqp import names
from events.amqp.connection import Link
from events.amqp.publishing import missing
from events.amqp.trouble import BrokerGone, BrokerRefused, bounded
from twinlock.custody.remote.ports import Lane
from workers.roster import ROSTER

_MISSING = 404
_GLANCE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Seen:
    """Hold how much waits in a queue, and how many take from it."""

    messages: int
    consumers: int


async def consumers_of(settings: Settings, worker: str, seconds: float) -> int:
    """Return how many processes take what is meant for a worker; raise a `BrokerGone`, or `TimedOut`."""
    link = Link(settings.broker, f"worker check {worker}")
    queue = _queue_of(worker)
    try:
        async with asyncio.timeout(seconds):
            return (await _look(link, queue)).consumers
    except BrokerRefused as refused:
        raise missing("queue", queue) if refused.code == _MISSING else refused from None
    except TimeoutError:
        raise TimedOut("the broker did not answer in time", hint="give it more with --timeout") from None
    finally:
        await link.close()


async def glance(settings: Settings) -> Mapping[str, Seen]:
    """Return what can be seen of every worker's queue, and of what nobody took; without a broker, nothing."""
    wanted = {worker: _queue_of(worker) for worker in ROSTER} | {"unrouted": names.UNROUTED, "rejected": names.REJECTED}
    link = Link(settings.broker, "status")
    found: dict[str, Seen] = {}
    try:
        async with asyncio.timeout(_GLANCE_SECONDS):
            for name, queue in wanted.items():
                await _note(link, name, queue, found)
    except (BrokerGone, TimeoutError):
        return found
    finally:
        await link.close()
    return found


def replicas(seen: Mapping[str, Seen]) -> Sequence[str]:
    """Say of each worker how many processes run it."""
    return [f"{worker}: {seen[worker].consumers if worker in seen else 'not seen'}" for worker in ROSTER]


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
