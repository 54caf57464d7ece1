"""What can go wrong with a broker, sorted by what the caller does next; no other error leaves this package.

Everything here passes: `BrokerGone` is tried again, on a new channel or connection. Its kinds only say more.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import TypeVar

from aio_pika import exceptions as aio
from aiormq.exceptions import ChannelAccessRefused, ChannelLockedResource, InvalidFrameError
from pamqp.exceptions import PAMQPException
from yarl import URL

from events.waiting import StrayCancellation, unstrayed
from twinlock.errors import TwinlockError

T = TypeVar("T")

_CODES: dict[type[Exception], int] = {
    ChannelAccessRefused: 403,
    aio.ChannelNotFoundEntity: 404,
    ChannelLockedResource: 405,
    aio.ChannelPreconditionFailed: 406,
}
# RuntimeError is what the library raises for a channel or connection that was closed meanwhile.
_FOREIGN = (aio.AMQPError, OSError, RuntimeError, EOFError, PAMQPException, StrayCancellation)


class BrokerGone(TwinlockError):
    """Say that the broker did not do it, or that nobody knows whether it did: try again later."""


class NotReached(BrokerGone):
    """Say that there is no connection, or none any more: nobody answers, or not yet."""


class LoginRefused(BrokerGone):
    """Say that the broker does not know the login or its password: somebody has to mend it."""


class BrokerRefused(BrokerGone):
    """Say that the broker closed the channel over what was asked; `code` is its reply code, such as 404."""

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(f"the broker refused: {detail}")
        self.code = code


class NotTaken(BrokerGone):
    """Say that the broker did not take a message: a queue is full."""


class Unroutable(BrokerGone):
    """Say that no queue is bound for a message: the broker gave it back."""


async def bounded(work: Awaitable[T], seconds: float, explain: Callable[[Exception], BrokerGone] | None = None) -> T:
    """Await one call of the library for at most that long; raise `BrokerGone` for whatever becomes of it.

    A cancellation that nobody asked for, which a dying connection throws into pending calls, is one of these.
    `explain` finds the words; default: `translated`.
    """
    try:
        async with asyncio.timeout(seconds):
            return await unstrayed(_awaited(work))
    except _FOREIGN as error:
        raise (explain or translated)(error) from None
    except Exception as error:
        # A closing channel fails its pending calls with a bare Exception where it knows no reason.
        if type(error) is Exception:
            raise (explain or translated)(error) from None
        raise


async def _awaited(work: Awaitable[T]) -> T:
    return await work


def translated(error: Exception) -> BrokerGone:
    """Put one of the library's errors into our words; its own text may hold a message's body and is not told."""
    for kind, code in _CODES.items():
        if isinstance(error, kind):
            return BrokerRefused(code, str(error.args[0]) if error.args else kind.__name__)
    if isinstance(error, aio.PublishError):
        return Unroutable("no queue takes the message", hint="run: twinlock broker declare")
    if isinstance(error, aio.DeliveryError):
        return NotTaken("the broker did not take the message: a queue is full")
    if isinstance(error, TimeoutError):
        return BrokerGone("the broker did not answer in time")
    return NotReached(f"the connection to the broker is lost: {type(error).__name__}")


def unreached(error: Exception, url: URL) -> BrokerGone:
    """Say why no connection came about, with the address and without the password."""
    place = place_of(url)
    if isinstance(error, aio.ProbableAuthenticationError | aio.AuthenticationError):
        return LoginRefused(
            f"{place} refuses the login {url.user}", hint="check user and password in the setting broker"
        )
    if isinstance(error, InvalidFrameError):
        # What opens the virtual host was answered with a farewell. It may be starting as well.
        vhost = url.path.removeprefix("/") or "/"
        return NotReached(
            f"{place} does not open the virtual host {vhost}", hint=f"see that it exists, and lets {url.user} in"
        )
    cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
    detail, hint = next((said for kind, said in _UNREACHED if isinstance(cause, kind)), _LOST)
    return NotReached(detail.format(place=place, kind=type(cause).__name__), hint=hint)


def silent(url: URL | str) -> NotReached:
    """Say that a broker is there and does not answer."""
    return NotReached(f"{place_of(URL(url))} does not answer in time", hint=_UP)


def place_of(url: URL) -> str:
    """Name a broker for people."""
    return f"RabbitMQ at {url.host}:{url.port or (5671 if url.scheme == 'amqps' else 5672)}"


_UP = "see that it runs, and check host and port in the setting broker"
_LOST = ("{place} can't be reached ({kind})", _UP)
# The first that fits explains: a class stands before its bases.
_UNREACHED: tuple[tuple[type[Exception], tuple[str, str]], ...] = (
    (
        ssl.SSLError,
        ("{place} is not trusted: TLS failed", "amqps:// needs its TLS port; ?cafile=FILE names who signed"),
    ),
    (socket.gaierror, ("there is no such host: {place}", _UP)),
    (ConnectionRefusedError, ("nothing answers for {place}", _UP)),
    (TimeoutError, ("{place} does not answer in time", _UP)),
)
