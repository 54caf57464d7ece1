"""One HTTP session to one OpenBao server: bounded in connections and in bytes, and closed without a trace."""

import json
import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from twinlock.vaults.network import (
    SHARE,
    Busy,
    Incomplete,
    Response,
    Turns,
    read_whole,
    retry_after,
    shown_answer,
    trusting,
)
from twinlock.vaults.openbao.reasons import Reason, VaultFault, reason_of

MOST_BYTES = 1024 * 1024  # a description with a thousand RSA versions
_REQUEST_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Answer:
    """Hold what the server answered: the whole document, which may hold secrets, and how a failure reads."""

    status: int
    document: dict[str, Any] | None = field(repr=False)
    raw: str
    request_id: str = ""
    retry_after: float | None = None

    @property
    def fault(self) -> VaultFault | None:
        """Return the fault that an answer stands for; None for a success."""
        if 200 <= self.status < 300:
            return None
        return VaultFault(reason_of(self.status, self._errors), self.raw, self.request_id, self.retry_after)

    @property
    def section(self) -> dict[str, Any]:
        """Return the `data` of a success, or raise the fault that says what came instead."""
        return self._part("data")

    @property
    def auth(self) -> dict[str, Any]:
        """Return the `auth` of a login, or raise the fault that says what came instead."""
        return self._part("auth")

    def _part(self, name: str) -> dict[str, Any]:
        if fault := self.fault:
            raise fault
        found = (self.document or {}).get(name)
        if not isinstance(found, dict):
            raise VaultFault(Reason.UNKNOWN, self.raw, self.request_id)
        return found

    @property
    def _errors(self) -> tuple[str, ...] | None:
        found = (self.document or {}).get("errors")
        return tuple(map(str, found)) if isinstance(found, list) else None


class Client:
    """Send requests to one server. The session is opened with the first of them, inside a running loop."""

    def __init__(self, base: str, ca_file: Path | None, connections: int, deadline: float) -> None:
        self._base = base
        self._ca_file = ca_file
        self._connections = connections
        # What then runs out of time has been with the vault for most of it, so that it may count (law 5).
        self._patience = deadline * SHARE
        self._turns = Turns(connections, self._patience)
        self._session: aiohttp.ClientSession | None = None

    async def send(self, method: str, path: str, body: dict[str, Any] | None = None, token: str = "") -> Answer:
        """Return the answer, whatever its status; raise what the HTTP client raises. The caller sets the deadline."""
        try:
            async with self._turns:
                return await self._send(method, path, body, token)
        except Busy:
            raise VaultFault(Reason.BUSY) from None

    async def _send(self, method: str, path: str, body: dict[str, Any] | None, token: str) -> Answer:
        headers = {"X-Vault-Request": "true", **({"X-Vault-Token": token} if token else {})}
        request = self._opened().request(method, self._base + path, json=body, headers=headers, allow_redirects=False)
        async with request as response:
            content = await _whole(response, self._patience)
            return _answer(response.status, content, _secrets(body, token), retry_after(response.headers))

    async def close(self) -> None:
        """Close every connection; a later request opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=self._connections, ssl=self._trust())
            self._session = aiohttp.ClientSession(
                connector=connector,
                auto_decompress=False,  # a small answer must not become a large one
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"Accept-Encoding": "identity"},
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
                response_class=Response,
            )
        return self._session

    def _trust(self) -> ssl.SSLContext:
        try:
            return trusting(self._ca_file)
        except (OSError, ValueError):  # of which ssl.SSLError is one: no certificate in the file
            raise VaultFault(Reason.NO_FILE, "ca_file") from None


async def _whole(response: aiohttp.ClientResponse, patience: float) -> bytes:
    try:
        return await read_whole(response, MOST_BYTES, patience)
    except Incomplete as found:
        raise VaultFault(Reason.UNKNOWN, str(found)) from None


def _answer(status: int, content: bytes, secrets: list[str], wait: float | None) -> Answer:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    document = found if isinstance(found, dict) else None
    request_id = _request_id(document or {}, secrets)
    if 200 <= status < 300:
        return Answer(status, document, f"{status}", request_id)  # what is in a success may be a key
    said = content.decode(errors="replace")
    if document is None and "http request to an https server" in said.lower():
        document = {"errors": [said]}  # the one answer of the server's own that is plain text
    return Answer(status, document, f"{status} {shown_answer(said, secrets)}".strip(), request_id, wait)


def _request_id(document: dict[str, Any], secrets: list[str]) -> str:
    """Return what the server calls our request; it is written down, so that nothing else may pass for it."""
    found = document.get("request_id")
    known = isinstance(found, str) and _REQUEST_ID.fullmatch(found) and found not in secrets
    return str(found) if known else ""


def _secrets(body: dict[str, Any] | None, token: str) -> list[str]:
    return [token, *(value for value in (body or {}).values() if isinstance(value, str))]
