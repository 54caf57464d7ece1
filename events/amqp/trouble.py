"""What can go wrong with a broker, sorted by what the caller does next; no other error leaves this package.

Everything here passes: `BrokerGone` is tried again, on a new channel or connection. Its kinds only say more.
"""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from aio_pika import exceptions as aio
from aiormq.exceptions import ChannelAccessRefused, ChannelLockedResource
from pamqp.exceptions import PAMQPException

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


class BrokerRefused(BrokerGone):
    """Say that the broker closed the channel over what was asked; `code` is its reply code, such as 404."""

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(f"the broker refused: {detail}")
        self.code = code


class NotTaken(BrokerGone):
    """Say that the broker did not take a message: a queue is full."""


class Unroutable(BrokerGone):
    """Say that no queue is bound for a message: the broker gave it back."""


async def bounded(work: Awaitable[T], seconds: float) -> T:
    """Await one call of the library for at most that long; raise `BrokerGone` for whatever becomes of it.

    A cancellation that nobody asked for, which a dying connection throws into pending calls, is one of these.
    """
    try:
        async with asyncio.timeout(seconds):
            return await unstrayed(_awaited(work))
    except _FOREIGN as error:
        raise translated(error) from None
    except Exception as error:
        # A closing channel fails its pending calls with a bare Exception where it knows no reason.
        if type(error) is Exception:
            raise translated(error) from None
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
    if isinstance(error, aio.ProbableAuthenticationError | aio.AuthenticationError):
        return BrokerGone("the broker refuses the login", hint="check user and password in TWINLOCK_BROKER")
    if isinstance(error, TimeoutError):
        return BrokerGone("the broker did not answer in time")
    return NotReached(f"the connection to the broker is lost: {type(error).__name__}")
