"""A stand-in for AWS KMS and STS at the wire: it answers each request as a test says, in the form that AWS documents.

For what moto can't be brought to say. Nothing here encrypts, and nothing checks a signature.
"""

import base64
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs

from aiohttp import web

from tests.servers.receiver import silence

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]

ACCOUNT, REGION = "111122223333", "eu-central-1"
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1234abcd-12ab-34cd-56ef-1234567890ab"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/twinlock"
PAYLOAD, BLOB = bytes(range(64)), b"\x01\x02\x02\x00x" + bytes(179)
REQUEST_ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
_HEADERS = {"x-amzn-RequestId": REQUEST_ID}
_ROLE_XML = """<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>
<AccessKeyId>ASIA{number}</AccessKeyId><SecretAccessKey>role-secret-{number}</SecretAccessKey>
<SessionToken>role-token-{number}</SessionToken><Expiration>2030-01-01T00:00:00Z</Expiration>
</Credentials></AssumeRoleResult></AssumeRoleResponse>"""


def key_metadata(**changed: Any) -> dict[str, Any]:
    """Return how KMS describes a key."""
    return {
        "Arn": KEY,
        "KeyId": KEY.rpartition("/")[2],
        "AWSAccountId": ACCOUNT,
        "CreationDate": 1504715457.803,
        "Description": "",
        "Enabled": True,
        "KeyManager": "CUSTOMER",
        "KeySpec": "SYMMETRIC_DEFAULT",
        "KeyState": "Enabled",
        "KeyUsage": "ENCRYPT_DECRYPT",
        "Origin": "AWS_KMS",
    } | changed


def answer(document: object, status: int = 200) -> Answer:
    """Answer with a document."""

    async def answered(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=json.dumps(document).encode(), status=status, headers=_HEADERS)

    return answered


def described(**changed: Any) -> Answer:
    """Describe the key, with some things changed."""
    return answer({"KeyMetadata": key_metadata(**changed)})


def refusal(code: str, message: str = "", status: int = 400) -> Answer:
    """Refuse as KMS does."""
    return answer({"__type": code, "message": message}, status)


def sts_refusal(code: str, message: str = "", status: int = 403) -> Answer:
    """Refuse as STS does."""
    body = f"<ErrorResponse><Error><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"

    async def answered(_request: web.Request) -> web.StreamResponse:
        return web.Response(text=body, status=status, headers=_HEADERS)

    return answered


def cut(request: web.Request) -> Awaitable[web.StreamResponse]:
    """Hang up."""
    assert request.transport is not None
    request.transport.abort()
    return silence(request)


class Wire:
    """Hold the answers that are due, first those to one operation; after them everything is well."""

    def __init__(self) -> None:
        self.endpoint = ""
        self.due: defaultdict[str, list[Answer]] = defaultdict(list)
        self.always: dict[str, Answer] = {
            "DescribeKey": described(),
            "Encrypt": answer({"CiphertextBlob": base64.b64encode(BLOB).decode(), "KeyId": KEY}),
            "Decrypt": answer({"Plaintext": base64.b64encode(PAYLOAD).decode(), "KeyId": KEY}),
            "AssumeRole": self._role,
        }
        self.asked: list[str] = []
        self.parameters: list[dict[str, Any]] = []
        self.signers: list[str] = []
        self._roles = 0

    def count(self, operation: str) -> int:
        """Return how often something was asked."""
        return self.asked.count(operation)

    async def take(self, request: web.Request) -> web.StreamResponse:
        """Answer a request."""
        body = await request.text()
        if target := request.headers.get("X-Amz-Target"):
            operation, parameters = target.rpartition(".")[2], json.loads(body)
        else:
            parameters = {name: values[0] for name, values in parse_qs(body).items()}
            operation = parameters["Action"]
        self.asked.append(operation)
        self.parameters.append(parameters)
        self.signers.append(request.headers["Authorization"].partition("Credential=")[2].partition("/")[0])
        due = self.due[operation]
        return await (due.pop(0) if due else self.always[operation])(request)

    async def _role(self, _request: web.Request) -> web.StreamResponse:
        self._roles += 1
        return web.Response(text=_ROLE_XML.format(number=self._roles), headers=_HEADERS)


@asynccontextmanager
async def wired() -> AsyncIterator[Wire]:
    """Run one on a port of its own."""
    wire = Wire()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", wire.take)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    wire.endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield wire
    finally:
        await runner.cleanup()
