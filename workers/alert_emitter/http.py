"""Post to a webhook: TLS that is checked, no redirect, one bounded try, and of the answer its status alone."""

import asyncio
import ssl
from pathlib import Path

import aiohttp

from twinlock.keys.webhook import HEADER, signature
from workers.alert_emitter.sending import Undelivered
from workers.alert_emitter.webhooks import BadSecret, Webhook

CONTENT_TYPE = "application/cloudevents+json"
DELIVERY = "Twinlock-Delivery"


class HttpPoster:
    """Sign and post; the secret is read for each try, so that a new one counts at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def __call__(self, hook: Webhook, delivery: str, at: int, body: bytes) -> None:
        """Return when a status of 2xx came."""
        headers = {"Content-Type": CONTENT_TYPE, "User-Agent": "twinlock", DELIVERY: delivery}
        headers[HEADER] = self._signature(hook, at, body)
        trust = self._trust(hook)
        try:
            async with asyncio.timeout(hook.deadline):
                status = await _post(hook.url, headers, body, trust)
        except TimeoutError:
            raise Undelivered(f"no answer within {hook.deadline:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # The text of an error may quote the URL.
            raise Undelivered(f"it can't be reached: {type(error).__name__}") from None
        if not 200 <= status < 300:
            raise Undelivered(
                f"it answered {status}{', and redirects are not followed' if 300 <= status < 400 else ''}"
            )

    def _signature(self, hook: Webhook, at: int, body: bytes) -> str:
        try:
            return signature(hook.secrets(self._folder), at, body)
        except BadSecret as bad:
            raise Undelivered(bad.detail) from None

    def _trust(self, hook: Webhook) -> ssl.SSLContext | bool:
        """Read the certificates to trust for each try, as the secret is; without a file they are the system's."""
        if hook.ca_file is None:
            return True
        try:
            context = ssl.create_default_context(cafile=self._folder / hook.ca_file)
        except (OSError, ValueError):  # of which ssl.SSLError is one: no certificate in the file
            raise Undelivered("the certificates of its ca_file can't be read") from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context


async def _post(url: str, headers: dict[str, str], body: bytes, trust: ssl.SSLContext | bool) -> int:
    """Return the status; the connection is closed on whatever else comes, read or not."""
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(force_close=True, ssl=trust),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,  # nothing of it is read
        timeout=aiohttp.ClientTimeout(total=None),
        trust_env=False,
    )
    async with session:
        response = await session.post(url, data=body, headers=headers, allow_redirects=False)
        if response.connection is not None and response.connection.transport is not None:
            response.connection.transport.abort()  # TLS would wait half a minute for a silent server's farewell
        response.close()
        return response.status
