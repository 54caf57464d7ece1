"""Bring the topology into a broker: what is there already stays, and nothing is ever deleted.

A declaration that differs from what exists closes its channel, so everything gets a fresh one after a refusal.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from aio_pika.abc import AbstractChannel

from events.amqp.connection import Link
from events.amqp.topology import Binding, Exchange, Queue, Topology
from events.amqp.trouble import BrokerGone, BrokerRefused, bounded
from twinlock.errors import TwinlockError

_SECONDS = 30.0  # a quorum queue of a busy cluster takes its time
_PRECONDITION = 406
_REFUSAL = re.compile(r"PRECONDITION_FAILED - inequivalent arg (?P<what>.*)")


class TopologyDiffers(TwinlockError):
    """Say what exists with other properties than ours; all else was declared."""

    def __init__(self, differences: list[str]) -> None:
        super().__init__(
            "the broker has other things under our names: " + "; ".join(differences),
            hint="arguments can't be changed: drain and delete what differs, then declare again",
        )
        self.differences = tuple(differences)


@dataclass(slots=True)
class Declared:
    """Hold what exists now."""

    exchanges: list[str] = field(default_factory=list)
    queues: list[str] = field(default_factory=list)
    bindings: int = 0


async def declare(link: Link, topology: Topology) -> Declared:
    """Declare everything, in order; raise `TopologyDiffers` with every difference, or `BrokerGone`."""
    return await _Declaring(link).all_of(topology)


class _Declaring:
    def __init__(self, link: Link) -> None:
        self._link = link
        self._channel: AbstractChannel | None = None
        self._differences: list[str] = []
        self._declared = Declared()

    async def all_of(self, topology: Topology) -> Declared:
        for exchange in topology.exchanges:
            if await self._try(exchange.name, partial(_exchange, exchange)):
                self._declared.exchanges.append(exchange.name)
        for queue in topology.queues:
            if await self._try(queue.name, partial(_queue, queue)):
                self._declared.queues.append(queue.name)
        for binding in topology.bindings:
            # An existing thing of another kind may be bound all the same; a missing one was told already.
            self._declared.bindings += await self._try(binding.queue, partial(_bind, binding))
        if self._differences:
            raise TopologyDiffers(self._differences)
        return self._declared

    async def _try(self, name: str, work: Callable[[AbstractChannel], Awaitable[Any]]) -> bool:
        if self._channel is None:
            self._channel = await self._link.channel(confirms=False)
        try:
            await bounded(work(self._channel), _SECONDS)
        except BrokerRefused as refused:
            self._channel = None
            if refused.code != _PRECONDITION:
                raise BrokerGone(f"can't declare {name}: {refused.detail}", hint=_hint(refused)) from None
            self._differences.append(_difference(name, refused))
            return False
        return True


def _exchange(exchange: Exchange, channel: AbstractChannel) -> Awaitable[Any]:
    return channel.declare_exchange(exchange.name, exchange.kind, durable=True, arguments=dict(exchange.arguments))


def _queue(queue: Queue, channel: AbstractChannel) -> Awaitable[Any]:
    return channel.declare_queue(queue.name, durable=True, arguments=dict(queue.arguments))


async def _bind(binding: Binding, channel: AbstractChannel) -> None:
    queue = await channel.get_queue(binding.queue, ensure=False)
    await queue.bind(binding.exchange, binding.key)


def _difference(name: str, refused: BrokerRefused) -> str:
    found = _REFUSAL.search(refused.detail)
    return found["what"].replace(" in vhost", ", vhost") if found else f"{name}: {refused.detail}"


def _hint(refused: BrokerRefused) -> str:
    return "the login needs the right to configure" if refused.code == 403 else ""
