"""Why no connection to the broker came about, in words for people."""

import socket
import ssl

import pytest
from aio_pika.exceptions import AMQPConnectionError, ProbableAuthenticationError
from aiormq.exceptions import InvalidFrameError
from yarl import URL

from events.amqp.trouble import LoginRefused, NotReached, unreached

PLACE = URL("amqps://ann:hunter2@mq.example/shop")


def caused(cause: OSError) -> AMQPConnectionError:
    """Return what the library makes of a system's error."""
    error = AMQPConnectionError(*cause.args)
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (caused(ConnectionRefusedError(111, "no")), NotReached, "nothing answers for RabbitMQ at mq.example:5671"),
        (caused(socket.gaierror(-2, "no")), NotReached, "there is no such host: RabbitMQ at mq.example:5671"),
        (caused(ssl.SSLError(1, "no")), NotReached, "RabbitMQ at mq.example:5671 is not trusted: TLS failed"),
        (TimeoutError(), NotReached, "RabbitMQ at mq.example:5671 does not answer in time"),
        (EOFError(), NotReached, "RabbitMQ at mq.example:5671 can't be reached (EOFError)"),
        (InvalidFrameError("no"), NotReached, "RabbitMQ at mq.example:5671 does not open the virtual host shop"),
        (ProbableAuthenticationError("no"), LoginRefused, "RabbitMQ at mq.example:5671 refuses the login ann"),
    ],
)
def test_unreached(error: Exception, kind: type[Exception], said: str) -> None:
    """Every cause names the address and a fix, and never the password."""
    told = unreached(error, PLACE)

    assert (kind, said) == (type(told), told.detail)
    assert told.hint
    assert "hunter2" not in told.detail + told.hint


@pytest.mark.parametrize(("url", "place"), [("amqp://a:b@h", "h:5672"), ("amqp://a:b@h:1/%2F", "h:1")])
def test_place(url: str, place: str) -> None:
    """A port that nobody wrote is the protocol's own."""
    assert f"RabbitMQ at {place} does not answer in time" == unreached(TimeoutError(), URL(url)).detail
