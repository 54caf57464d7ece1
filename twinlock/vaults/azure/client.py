"""One vault of Azure: requests that go to the service, always, and answers as they came.

The vendor's client for cryptography wraps by itself where it knows the public key. So it is not used: its client for
keys carries our requests, with its login and its checks of who asks for a token.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from azure.core.rest import HttpRequest
from azure.keyvault.keys.aio import KeyClient

from twinlock.vaults.azure.login import Logins, VaultLogin, begin
from twinlock.vaults.azure.reasons import Reason, VaultFault
from twinlock.vaults.azure.rules import reason_of
from twinlock.vaults.azure.settings import AzureSettings
from twinlock.vaults.azure.transport import ONCE, Sessions, Transport, read_document
from twinlock.vaults.azure.uris import CLOUDS, cloud_of
from twinlock.vaults.network import SHARE, Busy, Turns, retry_after, shown_answer
from twinlock.vaults.uris import KeyUri

_REQUEST_ID = re.compile(r"[0-9a-fA-F-]{36}")


@dataclass(frozen=True, slots=True)
class Answer:
    """Hold what a vault answered: the whole document, which may hold secrets, and how a failure reads."""

    status: int
    document: dict[str, Any] | None = field(repr=False)
    raw: str
    request_id: str = ""
    retry_after: float | None = None

    @property
    def found(self) -> dict[str, Any]:
        """Return the document of a success, or raise the fault that says what came instead."""
        if not 200 <= self.status < 300:
            raise VaultFault(reason_of(self.status, self.document), self.raw, self.request_id, self.retry_after)
        if self.document is None:
            raise VaultFault(Reason.UNKNOWN, self.raw, self.request_id)
        return self.document


class Client:
    """Send requests to one vault."""

    def __init__(self, key: KeyUri, settings: AzureSettings, secrets: Path, sessions: Sessions, logins: Logins) -> None:
        own, cloud = settings.vaults.get(key.vault), cloud_of(key.vault)
        ca_file = secrets / own.ca_file if own is not None and own.ca_file is not None else None
        if own is not None or cloud is None:
            authority = own.authority if own is not None else CLOUDS[0].authority
            self._login = VaultLogin(logins, authority, ca_file, [each.scope for each in CLOUDS])
        else:
            self._login = VaultLogin(logins, cloud.authority, None, [cloud.scope])
        self._keys = KeyClient(
            key.vault_uri,
            self._login,
            transport=Transport(sessions.of(ca_file)),
            verify_challenge_resource=own is None,  # a host of another name is none of the resource's
            connection_timeout=settings.deadline,
            read_timeout=settings.deadline,
            **ONCE,
        )
        # What then runs out of time has been with the vault for most of it, so that it may count (law 5).
        self._turns = Turns(settings.connections, settings.deadline * SHARE)

    async def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Answer:
        """Return the answer, whatever its status; raise what the library raises. The caller sets the deadline."""
        begin()
        try:
            async with self._turns:
                response = await self._send(method, path, body)
                if response.status_code == 401:
                    await self._login.forget(_token(response))
                    response = await self._send(method, path, body)
                return _answer(response, body or {})
        except Busy:
            raise VaultFault(Reason.BUSY) from None

    async def close(self) -> None:
        """Close the library's client."""
        await self._keys.close()

    async def _send(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        return await self._keys.send_request(HttpRequest(method, f"/{path}", json=body), stream=True)


def _token(response: Any) -> str:
    """Return the token that was sent."""
    return str(response.request.headers.get("Authorization", "")).removeprefix("Bearer ")


def _answer(response: Any, body: dict[str, Any]) -> Answer:
    status, content = response.status_code, response.content
    document, request_id = read_document(content), response.headers.get("x-ms-request-id", "")
    known = request_id if _REQUEST_ID.fullmatch(request_id) else ""
    if 200 <= status < 300:
        return Answer(status, document, f"{status}", known)  # what is in a success may be a key
    secrets = [_token(response), *(value for value in body.values() if isinstance(value, str))]
    said = shown_answer(content.decode(errors="replace"), secrets)
    return Answer(status, document, f"{status} {said}".strip(), known, retry_after(response.headers))
