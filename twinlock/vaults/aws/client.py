"""One client of aiobotocore to one service in one region: it never tries again, and its failures are faults of ours."""

import asyncio
import logging
import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.credentials import AioCredentials
from aiobotocore.session import AioSession
from botocore.exceptions import ClientError
from botocore.loaders import create_loader

from twinlock.vaults.aws.identity import Identity
from twinlock.vaults.aws.reasons import Reason, VaultFault
from twinlock.vaults.aws.sending import Sender
from twinlock.vaults.aws.settings import AwsSettings
from twinlock.vaults.network import SHARE, Busy, Turns, shown_answer

Judge = Callable[[int, str, str], Reason]

_REQUEST_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MOST_CODE = 60
# What a home or an environment of Amazon's tools holds is for our identity alone. Each is a name in a file, one in the
# environment, a default and a conversion.
_OURS_ALONE = {
    "profile": (None, None, None, None),
    "config_file": (None, None, "/dev/null", None),
    "credentials_file": (None, None, "/dev/null", None),
    "sts_regional_endpoints": (None, None, "regional", None),
}
_NOBODY = "nobody"
_LOADER = create_loader()  # it remembers what it has read: megabytes, for each service

# Its debugging lines hold whole requests and answers, plaintext keys among them.
for _log in map(logging.getLogger, ("aiobotocore", "botocore")):
    _log.setLevel(max(_log.level, logging.INFO))


@dataclass(frozen=True, slots=True)
class Place:
    """Say where a service answers; without an endpoint where Amazon says so."""

    service: str
    region: str
    endpoint: str


class Client:
    """Ask one service. The connection is opened with the first request, inside a running loop."""

    def __init__(self, place: Place, identity: Identity, judge: Judge, settings: AwsSettings) -> None:
        self._place = place
        self._identity = identity
        self._judge = judge
        self._settings = settings
        self._turns = Turns(settings.connections, settings.deadline * SHARE)
        self._opening = asyncio.Lock()
        self._client: Any = None
        self._stack = AsyncExitStack()

    async def ask(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """Return the answer, or raise a fault, or what the HTTP client raises. The caller sets the deadline."""
        try:
            async with self._turns:
                client = await self._opened()
                answer: dict[str, Any] = await getattr(client, operation)(**parameters)
                return answer
        except Busy:
            raise VaultFault(Reason.BUSY) from None
        except ClientError as refused:
            raise self._fault(refused.response, _secrets(parameters, self._identity.secrets)) from None

    async def close(self) -> None:
        """Close every connection; a later request opens new ones."""
        stack, self._stack, self._client = self._stack, AsyncExitStack(), None
        await stack.aclose()

    def _fault(self, response: Mapping[str, Any], secrets: list[str]) -> VaultFault:
        error, metadata = response.get("Error", {}), response.get("ResponseMetadata", {})
        status, code, message = metadata.get("HTTPStatusCode", 0), str(error.get("Code")), str(error.get("Message"))
        raw = shown_answer(f"{status} {code[:_MOST_CODE]} {message}", secrets)
        request_id = str(metadata.get("RequestId"))
        return VaultFault(
            self._judge(status, code, message), raw, request_id if _REQUEST_ID.fullmatch(request_id) else ""
        )

    async def _opened(self) -> Any:
        async with self._opening:
            if self._client is None:
                session = AioSession(_OURS_ALONE)
                session.register_component("data_loader", _LOADER)
                creating = session.create_client(
                    self._place.service,
                    region_name=self._place.region,
                    endpoint_url=self._place.endpoint or None,
                    aws_access_key_id=_NOBODY,  # so that it looks for nobody: `_sign_as_us` has the last word
                    aws_secret_access_key=_NOBODY,
                    config=self._config(),
                )
                client = await self._stack.enter_async_context(creating)
                client.meta.events.register("before-sign", self._sign_as_us)
                self._client = client
            return self._client

    async def _sign_as_us(self, request: Any, **_unused: Any) -> None:
        keys = await self._identity.keys()
        credentials = AioCredentials(keys.access_key, keys.secret_key, keys.token)
        request.context.setdefault("signing", {})["request_credentials"] = credentials

    def _config(self) -> Any:
        deadline = self._settings.deadline
        return AioConfig(
            # The custodian has breakers, budgets and a second vault: nobody tries again below it.
            retries={"total_max_attempts": 1, "mode": "standard"},
            connect_timeout=deadline,
            read_timeout=deadline,
            max_pool_connections=self._settings.connections,
            http_session_cls=Sender,
            ignore_configured_endpoint_urls=True,
            defaults_mode="legacy",
            warm_up_loader_caches=True,
        )


def _secrets(parameters: Mapping[str, Any], own: list[str]) -> list[str]:
    sent = [b64encode(value).decode() for value in parameters.values() if isinstance(value, bytes)]
    return [*own, *sent, str(parameters.get("ExternalId", ""))]
