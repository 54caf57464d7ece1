"""What carries aiobotocore's requests, in place of its own session: no redirection, no proxy, no endless answer."""

from functools import cache
from typing import Any

import aiohttp
from aiobotocore.awsrequest import AioAWSResponse
from yarl import URL

from twinlock.vaults.aws.reasons import Reason, VaultFault
from twinlock.vaults.network import SHARE, Incomplete, Response, read_whole, trusting

MOST_BYTES = 256 * 1024  # an answer of KMS or STS has a few thousand


class Sender:
    """Implement what aiobotocore asks of an HTTP session; further options of its own are not for us."""

    def __init__(
        self, *, timeout: tuple[float, float], verify: bool | str, max_pool_connections: int, **_unused: Any
    ) -> None:
        connect, read = timeout
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect, sock_read=read)
        self._patience = read * SHARE
        self._ca_file = verify if isinstance(verify, str) else None
        self._connections = max_pool_connections
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "Sender":
        return self

    async def __aexit__(self, *_unused: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def send(self, request: Any) -> Any:
        """Send a signed request as it is, and return the whole answer, whatever its status."""
        headers = {name: _text(value) for name, value in request.headers.items()} | {"Accept-Encoding": "identity"}
        url = URL(request.url, encoded=True)
        sending = self._opened(url).request(
            request.method,
            url,
            data=request.body,
            headers=headers,
            allow_redirects=False,  # what is signed, and what is encrypted, is for nobody else
            skip_auto_headers={"Content-Type"},
        )
        async with sending as response:
            content = await _whole(response, self._patience)
        found = {name.lower(): value for name, value in response.headers.items()}
        return AioAWSResponse(request.url, response.status, found, _Body(content))

    def _opened(self, url: URL) -> aiohttp.ClientSession:
        if self._session is None:
            trust = _trust(self._ca_file) if url.scheme == "https" else True
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections, ssl=trust),
                auto_decompress=False,  # a small answer must not become a large one
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=self._timeout,
                response_class=Response,
            )
        return self._session


class _Body:
    """Hand a body over as aiobotocore takes it."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    async def read(self) -> bytes:
        return self._content


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


async def _whole(response: aiohttp.ClientResponse, patience: float) -> bytes:
    try:
        return await read_whole(response, MOST_BYTES, patience)
    except Incomplete as found:
        raise VaultFault(Reason.UNKNOWN, str(found)) from None


_trust = cache(trusting)  # it takes a tenth of a second, and every account asks for the same
