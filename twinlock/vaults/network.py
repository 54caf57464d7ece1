"""What adapters share that reach their vault over HTTP: bounded answers, and what its exceptions mean."""

import asyncio
import errno
import ssl
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path

import aiohttp

_MOST_SHOWN = 300
_DIGITS = 10
SHARE = 0.25  # of a deadline: how long to wait for our own turn, and for what is not the answer itself
_SECRETS_SHOWN_FROM = 8  # shorter texts are in no danger, and would blank out half a message
_NETWORK = frozenset(
    {
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.ECONNABORTED,
        errno.EPIPE,
        errno.ETIMEDOUT,
        errno.EHOSTUNREACH,
        errno.EHOSTDOWN,
        errno.ENETUNREACH,
        errno.ENETDOWN,
    }
)
# What a connection says that ended in the middle of the handshake.
_CUT_OFF = ssl.SSLEOFError | ssl.SSLZeroReturnError | ssl.SSLSyscallError


class Trouble(StrEnum):
    """What kept an answer from coming; adapters call it the same."""

    NO_ANSWER = "no-answer"
    UNREACHABLE = "unreachable"
    UNKNOWN_HOST = "host-unknown"
    CERTIFICATE = "certificate"
    NOT_TLS = "not-tls"
    OURS = "own-fault"
    UNKNOWN = "unknown-answer"


def trouble_of(fault: Exception) -> Trouble:
    """Say what an exception of the HTTP client means; a class stands before its bases."""
    if isinstance(fault, TimeoutError):
        return Trouble.NO_ANSWER
    if isinstance(fault, aiohttp.ClientConnectorDNSError):
        return Trouble.UNKNOWN_HOST
    if isinstance(fault, aiohttp.ClientConnectorCertificateError):
        return Trouble.CERTIFICATE
    if isinstance(fault, aiohttp.ClientConnectorSSLError):
        return _of_tls(fault.os_error)
    if isinstance(fault, aiohttp.ClientOSError | OSError):
        return Trouble.UNREACHABLE if _is_network(fault) else Trouble.OURS
    if isinstance(fault, aiohttp.ServerDisconnectedError | aiohttp.ClientPayloadError):
        return Trouble.UNREACHABLE
    return Trouble.UNKNOWN


def _of_tls(fault: OSError) -> Trouble:
    if isinstance(fault, ssl.SSLCertVerificationError):
        return Trouble.CERTIFICATE
    cut_off = isinstance(fault, _CUT_OFF) or not isinstance(fault, ssl.SSLError)
    return Trouble.UNREACHABLE if cut_off else Trouble.NOT_TLS


def _is_network(fault: OSError) -> bool:
    # No outage of the vault's: no file left to open, an address that we may not use.
    several = fault.errno is None and isinstance(fault, aiohttp.ClientConnectorError)  # one for each of its addresses
    return several or isinstance(fault, ConnectionError | _CUT_OFF) or fault.errno in _NETWORK


def shown_fault(fault: Exception) -> str:
    """Name an exception."""
    # Only the type: the text of a foreign error may quote what was sent.
    number = getattr(fault, "errno", None)
    name = errno.errorcode.get(number, "") if isinstance(number, int) else ""
    return f"{type(fault).__name__} {name}".strip()


def trusting(ca_file: Path | str | None) -> ssl.SSLContext:
    """Return what trusts the certificates of a file, by default the system's; OSError or ValueError where it can't."""
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


class Busy(Exception):
    """Say that all of our own connections are in use: that tells nothing about the vault."""


class Turns:
    """Let only so many requests out at the same time; who waits for longer than `patience` seconds is told."""

    def __init__(self, number: int, patience: float) -> None:
        self._free = asyncio.Semaphore(number)
        self._patience = patience

    async def __aenter__(self) -> None:
        if not self._free.locked():
            await self._free.acquire()
            return
        try:
            async with asyncio.timeout(self._patience):
                await self._free.acquire()
        except TimeoutError:
            raise Busy from None

    async def __aexit__(self, *_unused: object) -> None:
        self._free.release()


class Incomplete(Exception):
    """Say that a refusal broke off, or that an answer went on and on."""


class Response(aiohttp.ClientResponse):
    """Take its connection with it where it ends early: TLS would wait half a minute for a silent server's farewell."""

    def close(self) -> None:
        """Close the connection, whatever the server does."""
        if self.connection is not None and self.connection.transport is not None:
            self.connection.transport.abort()
        super().close()


async def read_whole(response: aiohttp.ClientResponse, most: int, patience: float) -> bytes:
    """Return a body, or raise `Incomplete`.

    A refusal that breaks off is no outage: it may be the one that says what the owner did.
    """
    good = 200 <= response.status < 300
    try:
        async with asyncio.timeout(None if good else patience):
            return await _read(response, most)
    except (TimeoutError, aiohttp.ClientError):
        if good:
            raise
        raise Incomplete(f"{response.status} broken off") from None


async def _read(response: aiohttp.ClientResponse, most: int) -> bytes:
    content = bytearray()
    try:
        async for chunk in response.content.iter_any():
            content += chunk
            if len(content) > most:
                raise Incomplete(f"{response.status} too long")
    except BaseException:
        response.close()
        raise
    return bytes(content)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return for how many seconds an answer asks us to leave the vault alone (RFC 9110, 10.2.3); a date says nothing.

    Other clocks are not ours, and vendors send seconds.
    """
    said = headers.get("Retry-After", "")
    return float(said) if said.isascii() and said.isdigit() and len(said) < _DIGITS else None


def shown_answer(said: str, secrets: Iterable[str]) -> str:
    """Bound and clean what a server says, which may quote what it was sent."""
    for secret in secrets:
        if len(secret) >= _SECRETS_SHOWN_FROM:
            said = said.replace(secret, "***")
    return "".join(char if char.isprintable() and char.isascii() else " " for char in said[:_MOST_SHOWN]).strip()
