"""One connection to the broker: opened when it is needed, given up as a whole, opened again by the next use.

The library's own reconnecting is not used: what is open here is known by construction, and whoever holds a channel
asks for a new one when his is gone.
"""

import asyncio
from asyncio import StreamReader, StreamWriter
from dataclasses import dataclass
from typing import Any

from aio_pika import Connection
from aio_pika.abc import AbstractChannel, ConnectionParameter
from aiormq.connection import TCPTransportFactory, TLSTransportFactory, TransportFactory
from yarl import URL

from events.amqp.legible import LegibleReader
from events.amqp.trouble import BrokerGone, bounded, unreached
from events.waiting import Jitter, randomly

_CLOSING_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """Hold the times of a connection, in seconds."""

    heartbeat: int = 10  # a half-open connection is found after three of them; the URL's own number wins
    connect: float = 10.0
    call: float = 10.0
    first_pause: float = 0.2
    longest_pause: float = 5.0


class Pauses:
    """Return growing, jittered pauses after failures in a row."""

    def __init__(self, first: float, longest: float, jitter: Jitter) -> None:
        self._first = first
        self._longest = longest
        self._jitter = jitter
        self.failures = 0

    def seconds(self) -> float:
        """Return how long to wait before the next try; nothing after a success."""
        if not self.failures:
            return 0.0
        grown = self._first * 2.0 ** min(self.failures - 1, 16)
        return min(grown, self._longest) * (0.5 + self._jitter() / 2)


class Link:
    """Hold at most one connection. `gone` is set while there is none, and at the moment it is lost."""

    def __init__(self, url: str, name: str, settings: LinkSettings | None = None, *, jitter: Jitter = randomly) -> None:
        self.settings = settings or LinkSettings()
        given = URL(url)
        self.login = given.user or "guest"
        self.gone = asyncio.Event()
        self.gone.set()
        self._url = given.update_query({"heartbeat": str(self.settings.heartbeat), **given.query, "name": name})
        self._name = name
        self._pauses = Pauses(self.settings.first_pause, self.settings.longest_pause, jitter)
        # Counted from the last try on: who has little time, as a check of health, must not begin the pause anew.
        self._not_before = 0.0
        self._opening = asyncio.Lock()
        self._connection: _Connection | None = None

    def __repr__(self) -> str:
        return f"<Link {self._name} to {self._url.host}:{self._url.port}>"

    async def channel(self, *, confirms: bool) -> AbstractChannel:
        """Open a channel, and the connection where there is none; raise `BrokerGone`.

        With `confirms`, a message that no queue takes raises as well. After failures this waits before it tries again.
        """
        connection = await self._open()
        channel = connection.channel(publisher_confirms=confirms, on_return_raises=confirms)
        await bounded(channel.initialize(), self.settings.call)
        return channel

    async def drop(self) -> None:
        """Give the connection up without a farewell: it may be dead. The next use opens a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self.gone.set()
            connection.abort()
            await _closed(connection)

    async def close(self) -> None:
        """Close the connection with a farewell."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await _closed(connection)
            self.gone.set()

    async def _open(self) -> "_Connection":
        async with self._opening:
            if self._connection is None or self._connection.is_closed or self.gone.is_set():
                await self.drop()
                await asyncio.sleep(max(0.0, self._not_before - asyncio.get_running_loop().time()))
                self._connection = await self._connected()
            return self._connection

    async def _connected(self) -> "_Connection":
        connection = _Connection(self._url)
        self._pauses.failures += 1
        self._not_before = asyncio.get_running_loop().time() + self._pauses.seconds()
        try:
            await bounded(connection.connect(), self.settings.connect, lambda error: unreached(error, self._url))
        except BaseException:
            connection.abort()
            raise
        self._pauses.failures = 0
        self._not_before = 0.0
        self.gone.clear()
        connection.close_callbacks.add(self._lost)
        if connection.is_closed:
            self.gone.set()
        return connection

    def _lost(self, connection: Any, _error: BaseException | None = None) -> None:
        if connection is self._connection or self._connection is None:
            self.gone.set()


async def _closed(connection: "_Connection") -> None:
    # What hangs here is freed by the abort; how a connection ended that nobody wants is no news.
    try:
        await bounded(connection.close(), _CLOSING_SECONDS)
    except BaseException as error:
        connection.abort()
        if not isinstance(error, BrokerGone):
            raise


class _Sockets(TransportFactory):
    """Remember the socket, so that a connection can be ended whatever state it is in; what comes can be read."""

    def __init__(self, inner: TransportFactory) -> None:
        self._inner = inner
        self._writer: StreamWriter | None = None

    async def create(self, url: URL, **kwargs: Any) -> tuple[StreamReader, StreamWriter]:
        reader, self._writer = await self._inner.create(url, **kwargs)
        return LegibleReader(reader), self._writer

    def abort(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()


class _Connection(Connection):
    """A connection of the library, with a way to end it at once. Whoever made it ends it: nobody's task does."""

    PARAMETERS = (*Connection.PARAMETERS, ConnectionParameter("transport_factory", lambda value: value, is_kwarg=True))

    def __init__(self, url: URL) -> None:
        self._sockets = _Sockets(TLSTransportFactory() if url.scheme == "amqps" else TCPTransportFactory())
        super().__init__(url, transport_factory=self._sockets)

    def __del__(self) -> None:
        pass  # the library would close it in a task that nobody owns, and fails where no loop runs

    def abort(self) -> None:
        """Reset the socket: every pending call fails, and no farewell waits for an answer."""
        self._sockets.abort()
