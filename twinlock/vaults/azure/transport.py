"""How the vendor's library reaches the network: sessions of ours, bounded answers, no second try behind our back."""

import json
import ssl
from pathlib import Path
from typing import Any

import aiohttp
from azure.core.pipeline.transport import AioHttpTransport, AsyncHttpTransport

from twinlock.vaults.azure.reasons import Reason, VaultFault
from twinlock.vaults.azure.rules import token_reason
from twinlock.vaults.network import SHARE, Incomplete, Response, read_whole, shown_answer, trusting

MOST_BYTES = 256 * 1024
ONCE: dict[str, Any] = {"retry_total": 0, "permit_redirects": False}  # retries have one owner, and it is not here


class Sessions:
    """Hold the HTTP sessions, one for each set of trusted certificates; each is opened inside a running loop."""

    def __init__(self, deadline: float, connections: int) -> None:
        self._deadline = deadline
        self._connections = connections
        self._open: dict[Path | None, aiohttp.ClientSession] = {}

    def of(self, ca_file: Path | None) -> aiohttp.ClientSession:
        """Return the session that trusts these certificates, by default the system's."""
        if ca_file not in self._open:
            connector = aiohttp.TCPConnector(limit=0, limit_per_host=self._connections, ssl=_trust(ca_file))
            self._open[ca_file] = aiohttp.ClientSession(
                connector=connector,
                auto_decompress=False,  # a small answer must not become a large one
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"Accept-Encoding": "identity"},
                response_class=_whole_within(self._deadline * SHARE),
            )
        return self._open[ca_file]

    async def close(self) -> None:
        """Close every connection; a later request opens new ones."""
        sessions, self._open = self._open, {}
        for session in sessions.values():
            await session.close()


def _trust(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return trusting(ca_file)
    except (OSError, ValueError):  # of which ssl.SSLError is one: no certificate in the file
        raise VaultFault(Reason.NO_FILE, "ca_file") from None


def _whole_within(patience: float) -> type[aiohttp.ClientResponse]:
    class _Whole(Response):
        """Be read as a whole, once, and bounded: the library would take in whatever comes."""

        content_read: bytes | None = None

        async def read(self) -> bytes:
            if self.content_read is None:
                self.content_read = await _read(self, patience)
            return self.content_read

    return _Whole


async def _read(response: aiohttp.ClientResponse, patience: float) -> bytes:
    if response.headers.get("Content-Encoding", "identity") != "identity":
        response.close()
        raise VaultFault(Reason.UNKNOWN, f"{response.status} encoded")
    try:
        return await read_whole(response, MOST_BYTES, patience)
    except Incomplete as found:
        raise VaultFault(Reason.UNKNOWN, str(found)) from None


class Transport(AsyncHttpTransport[Any, Any]):
    """Carry requests over a session of ours; an answer is complete before anything looks into it."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._carrier: AsyncHttpTransport[Any, Any] = AioHttpTransport(
            session=session, session_owner=False, use_env_settings=False
        )

    async def send(self, request: Any, *, stream: bool = False, **config: Any) -> Any:
        """Return the answer, its body read. The caller sets the deadline."""
        return await self._carrier.send(request, stream=False, **config)

    async def open(self) -> None:
        """Do nothing: the session is open."""

    async def close(self) -> None:
        """Do nothing: the session is shared."""

    async def __aexit__(self, *ended: object) -> None:
        """Do nothing: the session is shared."""


class TokenTransport(Transport):
    """Carry requests for tokens, and let nothing pass but a token: the library would guess at all else."""

    async def send(self, request: Any, *, stream: bool = False, **config: Any) -> Any:
        """Return the answer that holds a token, or raise the fault that says what came instead."""
        response = await super().send(request, stream=stream, **config)
        document = read_document(response.content)
        if response.status_code == 200 and _is_token(document):
            return response
        reason = Reason.UNKNOWN if response.status_code == 200 else token_reason(response.status_code, document)
        sent = request.content if isinstance(request.content, dict) else {}
        said = "" if response.status_code == 200 else response.content.decode(errors="replace")
        shown = shown_answer(said, (each for each in sent.values() if isinstance(each, str)))
        raise VaultFault(reason, f"login {response.status_code} {shown}".strip())


def read_document(content: bytes) -> dict[str, Any] | None:
    """Return the document that a body is; None where it is none."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _is_token(document: dict[str, Any] | None) -> bool:
    token, lasts = (document or {}).get("access_token"), (document or {}).get("expires_in")
    is_text = isinstance(token, str) and token.isascii() and token.isprintable() and bool(token)
    return is_text and " " not in str(token) and type(lasts) is int and 0 < lasts < 2**31
