"""Publishing with confirms: what is taken was confirmed by the broker and has a queue that keeps it.

Of one message id at most one is in flight: the library assigns what comes back by that id alone. After an unknown
result the whole connection is given up before anything goes again, so that no late confirm is taken for another's.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from weakref import WeakValueDictionary

from aio_pika import Message as Outgoing
from aio_pika.abc import AbstractChannel, AbstractExchange

from events.amqp.connection import Link
from events.amqp.trouble import BrokerGone, BrokerRefused, NotTaken, Unroutable, bounded

log = logging.getLogger(__name__)

DECLARE = "run: twinlock broker declare"
_MISSING = 404


@dataclass(frozen=True, slots=True)
class Parcel:
    """Hold one message on its way to an exchange."""

    exchange: str
    key: str
    message: Outgoing


@dataclass(frozen=True, slots=True)
class OutletSettings:
    """Hold how much is in flight at a time, and how long a confirm may take, in seconds."""

    window: int = 100
    confirm: float = 10.0


class _Open:
    """Hold a channel, the exchanges that it knows, and how many messages are in flight on it.

    Once a full queue has refused a message, a channel is done with: what the broker remembers for it of a full quorum
    queue may outlast the queue's limit, and then nothing is ever taken on it again.
    """

    def __init__(self, channel: AbstractChannel) -> None:
        self.channel = channel
        self.exchanges: dict[str, AbstractExchange] = {}
        self.flying = 0
        self.refused = False

    @property
    def usable(self) -> bool:
        """Tell whether anything more may be published on it."""
        return not self.refused and not self.channel.is_closed

    async def landed(self, seconds: float) -> None:
        """Count down, and close a channel that is done with when nothing is in flight on it."""
        self.flying -= 1
        if self.refused and not self.flying and not self.channel.is_closed:
            with suppress(BrokerGone):  # it ends with its connection, then
                await bounded(self.channel.close(), seconds)


class Outlet:
    """Publish on one channel of a connection that nothing else uses."""

    def __init__(self, link: Link, settings: OutletSettings | None = None) -> None:
        self._link = link
        self._settings = settings or OutletSettings()
        self._window = asyncio.Semaphore(self._settings.window)
        self._opening = asyncio.Lock()
        self._open: _Open | None = None
        self._flying: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._one_by_one = False

    async def send_all(self, parcels: Sequence[Parcel]) -> Sequence[BrokerGone | None]:
        """Publish every parcel and return for each what went wrong, or none."""
        if self._one_by_one:
            return await self._sequentially(parcels)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._outcome(parcel)) for parcel in parcels]
        return [task.result() for task in tasks]

    async def send(self, parcel: Parcel) -> None:
        """Publish one parcel; raise a `BrokerGone` unless it was confirmed and has a queue."""
        # Kept by whoever waits for it, and by nobody after them.
        alone = self._flying.setdefault(parcel.message.message_id or "", asyncio.Lock())
        async with alone, self._window:
            on, exchange = await self._exchange(parcel.exchange)
            on.flying += 1
            try:
                await bounded(exchange.publish(parcel.message, parcel.key, mandatory=True), self._settings.confirm)
            except Unroutable:
                raise
            except NotTaken:
                on.refused = True
                raise
            except BrokerGone as gone:
                await self._give_up(on, gone)
                raise
            finally:
                await on.landed(self._link.settings.call)

    async def _outcome(self, parcel: Parcel) -> BrokerGone | None:
        try:
            await self.send(parcel)
        except BrokerGone as gone:
            log.info("%s is not published now: %s", parcel.key, gone.detail)
            return gone
        return None

    async def _sequentially(self, parcels: Sequence[Parcel]) -> Sequence[BrokerGone | None]:
        # A refused message closes the channel under all the others: alone, it fails alone.
        outcomes = [await self._outcome(parcel) for parcel in parcels]
        self._one_by_one = any(isinstance(outcome, BrokerRefused) for outcome in outcomes)
        return outcomes

    async def _exchange(self, name: str) -> tuple[_Open, AbstractExchange]:
        async with self._opening:
            on = self._open
            if on is None or not on.usable:
                on = self._open = _Open(await self._link.channel(confirms=True))
            if name not in on.exchanges:
                await self._look_for(name)
                on.exchanges[name] = await on.channel.get_exchange(name, ensure=False)
            return on, on.exchanges[name]

    async def _look_for(self, name: str) -> None:
        """Look whether the exchange is there, on a channel of its own: a missing one closes it."""
        probe = await self._link.channel(confirms=False)
        try:
            await bounded(probe.get_exchange(name), self._link.settings.call)
        except BrokerRefused as refused:
            if refused.code != _MISSING:
                raise
            raise missing("exchange", name) from None
        await bounded(probe.close(), self._link.settings.call)

    async def _give_up(self, on: _Open, gone: BrokerGone) -> None:
        if isinstance(gone, BrokerRefused):
            self._one_by_one = True
        if on is not self._open:
            return
        self._open = None
        if not isinstance(gone, BrokerRefused):
            await self._link.drop()


def missing(what: str, name: str) -> BrokerRefused:
    """Say what has to be declared."""
    refused = BrokerRefused(_MISSING, f"there is no {what} {name}")
    refused.hint = DECLARE
    return refused
