"""A stand-in for Azure Key Vault and for Entra, written for the tests: it speaks their REST contract over TLS.

No server of Azure's runs outside Azure. So what is tested here is the wire: the vendor's own libraries log in and call
it, and it answers in the forms that Azure documents. `says` has it answer an operation with anything at all.
"""

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from aiohttp import web
from azure.keyvault.keys._shared import HttpChallengeCache
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.servers.certificates import Certificates

DIRECTORY, CLIENT, SECRET = (
    "0f8fad5b-d9cb-469f-a165-70867728950e",
    "7c9e6679-7425-40de-944b-e07fc1f90ae7",
    "s3cret~value",
)
RESOURCE = "https://vault.azure.net"
USE, OWN = frozenset({"get", "wrapKey", "unwrapKey"}), frozenset({"create", "delete", "purge"})
PURGED_AT = 1893456000  # 2030

_OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
_NEEDS = {"wrapkey": "wrapKey", "unwrapkey": "unwrapKey", "deletedkeys": "get"}


class Refused(Exception):
    """Carry an error that the server answers with."""

    def __init__(self, status: int, code: str, message: str = "", inner: str = "") -> None:
        super().__init__(message)
        error: dict[str, Any] = {"code": code, "message": message}
        if inner:
            error["innererror"] = {"code": inner}
        self.answer = Said(status, json.dumps({"error": error}).encode())


@dataclass(frozen=True)
class Said:
    """Hold an answer."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    def response(self) -> web.Response:
        """Return it as the server sends it."""
        headers = {"Content-Type": "application/json; charset=utf-8", "x-ms-request-id": str(uuid4()), **self.headers}
        return web.Response(status=self.status, body=self.body, headers=headers)


def says(status: int, code: str, message: str = "", inner: str = "") -> Said:
    """Return an error of a vault's."""
    return Refused(status, code, message, inner).answer


def entra_says(status: int, number: int, message: str = "") -> Said:
    """Return an error of Entra's."""
    text = f"AADSTS{number}: {message} Trace ID: {uuid4()}"
    body = {"error": "invalid_client", "error_description": text, "error_codes": [number]}
    return Said(status, json.dumps(body).encode())


@dataclass
class Key:
    """Hold the versions of a key, the newest last, and its attributes."""

    versions: dict[str, rsa.RSAPrivateKey]
    attributes: dict[str, Any]
    tags: dict[str, str]
    kind: str = "RSA"


class KeyVault:
    """Keep keys, soft-deleted ones apart, and give out tokens."""

    def __init__(self, generate: Callable[[], rsa.RSAPrivateKey]) -> None:
        self.port = 0
        self.keys: dict[str, Key] = {}
        self.deleted: dict[str, Key] = {}
        self.level = "Recoverable"
        self.allowed = set(USE)
        self.says: dict[str, Said] = {}  # by operation, in place of what it would answer
        self.asked: list[str] = []  # every operation that came with a good token, and every request for a token
        self.tokens: set[str] = set()
        self.logins: list[dict[str, str]] = []  # what was sent for each token
        self.directory, self.resource = DIRECTORY, RESOURCE  # what the challenge names
        self.silent: set[str] = set()  # operations that are not answered before the end
        self.over = asyncio.Event()
        self.version: Callable[[Key | None], str] = lambda key: uuid4().hex
        self._generate = generate

    @property
    def host(self) -> str:
        """Return the host by which the vault is reached without detour."""
        return f"127.0.0.1:{self.port}"

    def uri(self, key: str, port: int | None = None) -> str:
        """Return the URI of a key."""
        return f"https://127.0.0.1:{port or self.port}/keys/{key}"

    def make(self, name: str, kind: str = "RSA", **attributes: Any) -> Key:
        """Make a key."""
        self.keys[name] = Key({}, {"enabled": True, **attributes}, {}, kind)
        self.rotate(name)
        return self.keys[name]

    def rotate(self, name: str) -> None:
        """Add a version."""
        key = self.keys[name]
        key.versions[self.version(key)] = self._generate()

    def soft_delete(self, name: str) -> None:
        """Delete a key softly."""
        self.deleted[name] = self.keys.pop(name)

    def recover(self, name: str) -> None:
        """Bring a deleted key back."""
        self.keys[name] = self.deleted.pop(name)

    def application(self) -> web.Application:
        """Return the server."""
        app = web.Application()
        app.router.add_post("/{directory}/oauth2/v2.0/token", self._token)
        app.router.add_get("/identity", self._managed)
        app.router.add_route("*", "/{kind:keys|deletedkeys}/{name}", self._serve)
        app.router.add_route("*", "/{kind:keys}/{name}/{version}", self._serve)
        app.router.add_route("*", "/{kind:keys}/{name}/{version}/{operation}", self._serve)
        return app

    async def _token(self, request: web.Request) -> web.Response:
        self.asked.append("token")
        if "token" in self.silent:
            await self.over.wait()
        if "token" in self.says:
            return self.says["token"].response()
        form = await request.post()
        assert (DIRECTORY, CLIENT) == (request.match_info["directory"], form["client_id"])
        assert ("client_credentials", f"{RESOURCE}/.default") == (form["grant_type"], form["scope"])
        if form.get("client_secret") != SECRET and not form.get("client_assertion"):
            return entra_says(401, 7000215, "Invalid client secret provided.").response()
        self.logins.append({name: str(value) for name, value in form.items()})
        return self._issued(expires_in=3599, ext_expires_in=3599)

    async def _managed(self, request: web.Request) -> web.Response:
        """Be the place where a managed identity finds its token."""
        self.asked.append("identity")
        assert ("header", RESOURCE) == (request.headers["X-IDENTITY-HEADER"], request.query["resource"])
        return self._issued(expires_on="4102444800", resource=RESOURCE)

    def _issued(self, **about: Any) -> web.Response:
        token = f"token-{uuid4().hex}"
        self.tokens.add(token)
        return Said(200, json.dumps({"token_type": "Bearer", "access_token": token, **about}).encode()).response()

    async def _serve(self, request: web.Request) -> web.Response:
        operation = _operation(request)
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in self.tokens:
            # Nothing of ours is sent before the vault has said who it is.
            assert "Authorization" in request.headers or b"" == await request.read()
            return self._challenge(request).response()
        self.asked.append(operation)
        if operation in self.silent:
            await self.over.wait()
        if operation in self.says:
            return self.says[operation].response()
        try:
            return (await self._answer(operation, request)).response()
        except Refused as refused:
            return refused.answer.response()

    def _challenge(self, request: web.Request) -> Said:
        where = f'Bearer authorization="https://{request.host}/{self.directory}", resource="{self.resource}"'
        message = "AKV10000: Request is missing a Bearer or PoP token."
        return Said(401, says(401, "Unauthorized", message).body, {"WWW-Authenticate": where})

    async def _answer(self, operation: str, request: web.Request) -> Said:
        assert request.query["api-version"]
        need = _NEEDS.get(operation, operation)
        if need not in self.allowed:
            message = (
                f"The user, group or application 'appid={CLIENT}' does not have keys {need} permission on key vault"
            )
            raise Refused(403, "Forbidden", message, "ForbiddenByPolicy")
        name = request.match_info["name"].lower()
        body = json.loads(await request.read() or b"{}")
        if operation == "create":
            return self._create(request, name, body)
        by_name = {"delete": self._delete, "purge": self._purge, "deletedkeys": self._deletedkeys}
        if operation in by_name:
            return by_name[operation](request, name)
        key = self._found(name)
        version = request.match_info.get("version") or list(key.versions)[-1]
        if version not in key.versions:
            raise _missing(name)
        if operation == "get":
            return _good(_bundle(request, name, key, version, self.level))
        return _used(operation, request, key, body)

    def _found(self, name: str) -> Key:
        if name not in self.keys:
            raise _missing(name)
        return self.keys[name]

    def _create(self, request: web.Request, name: str, body: dict[str, Any]) -> Said:
        if name in self.deleted:
            message = f"Object {name} is currently in a deleted but recoverable state"
            raise Refused(409, "Conflict", message, "ObjectIsDeletedButRecoverable")
        assert (["wrapKey", "unwrapKey"], 3072) == (body["key_ops"], body["key_size"])
        key = self.keys[name] if name in self.keys else self.make(name, body["kty"])
        key.tags = body["tags"]
        return _good(_bundle(request, name, key, list(key.versions)[-1], self.level))

    def _delete(self, request: web.Request, name: str) -> Said:
        self._found(name)
        self.soft_delete(name)
        return self._deletedkeys(request, name)

    def _deletedkeys(self, request: web.Request, name: str) -> Said:
        if name not in self.deleted:
            raise Refused(404, "KeyNotFound", f"Deleted Key not found: {name}")
        key = self.deleted[name]
        more = {"recoveryId": f"https://{request.host}/deletedkeys/{name}", "scheduledPurgeDate": PURGED_AT}
        return _good(_bundle(request, name, key, list(key.versions)[-1], self.level) | more)

    def _purge(self, request: web.Request, name: str) -> Said:
        self._deletedkeys(request, name)
        if "Purgeable" not in self.level:
            raise Refused(403, "Forbidden", "Operation purge is not allowed", "OperationNotAllowed")
        del self.deleted[name]
        return Said(204)


def _operation(request: web.Request) -> str:
    if request.method == "GET":
        return "deletedkeys" if request.match_info["kind"] == "deletedkeys" else "get"
    if request.method == "DELETE":
        return "purge" if request.match_info["kind"] == "deletedkeys" else "delete"
    return request.match_info.get("operation") or request.match_info["version"]  # /keys/NAME/create


def _used(operation: str, request: web.Request, key: Key, body: dict[str, Any]) -> Said:
    """Wrap or unwrap; Azure wraps with a disabled key, and unwraps with none."""
    assert "RSA-OAEP-256" == body["alg"]
    version, value = request.match_info["version"], _decode(body["value"])
    private = key.versions[version]
    if operation == "wrapkey":
        made = private.public_key().encrypt(value, _OAEP)
    elif not key.attributes["enabled"]:
        raise Refused(403, "Forbidden", "Operation unwrapKey is not allowed on a disabled key.", "KeyDisabled")
    else:
        try:
            made = private.decrypt(value, _OAEP)
        except ValueError:
            raise Refused(400, "BadParameter", "Unable to decrypt specified value with this key.") from None
    return _good({"kid": f"https://{request.host}/keys/{request.match_info['name']}/{version}", "value": _encode(made)})


def _bundle(request: web.Request, name: str, key: Key, version: str, level: str) -> dict[str, Any]:
    numbers = key.versions[version].public_key().public_numbers()
    n, e = (_encode(each.to_bytes((each.bit_length() + 7) // 8, "big")) for each in (numbers.n, numbers.e))
    kid = f"https://{request.host}/keys/{name}/{version}"
    about = {"created": 1700000000, "updated": 1700000000, "recoveryLevel": level, "recoverableDays": 90}
    jwk = {"kid": kid, "kty": key.kind, "key_ops": ["wrapKey", "unwrapKey"], "n": n, "e": e}
    return {"key": jwk, "attributes": {**about, **key.attributes}, "tags": key.tags}


def _missing(name: str) -> Refused:
    return Refused(404, "KeyNotFound", f"A key with (name/id) {name} was not found in this key vault.")


def _good(document: dict[str, Any]) -> Said:
    return Said(200, json.dumps(document).encode())


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def tls(certificates: Certificates) -> ssl.SSLContext:
    """Return what a server with this certificate listens with."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.certificate, certificates.key)
    return context


@asynccontextmanager
async def key_vault(certificates: Certificates, generate: Callable[[], rsa.RSAPrivateKey]) -> AsyncIterator[KeyVault]:
    """Run a vault."""
    # The vendor's library keeps for the whole process what a host and port demanded, and ports come again.
    HttpChallengeCache.clear()
    vault = KeyVault(generate)
    runner = web.AppRunner(vault.application())
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls(certificates))
        await site.start()
        vault.port = runner.addresses[0][1]
        yield vault
    finally:
        vault.over.set()
        await runner.cleanup()
