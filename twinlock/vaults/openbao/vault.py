"""OpenBao's Transit engine, and HashiCorp Vault's: root keys at `bao+https://HOST:PORT/MOUNT/keys/NAME`.

Keys are RSA or aes256-gcm96. The customer grants our login three things, and keeps the rest:

    path "MOUNT/keys/NAME"    { capabilities = ["read"] }
    path "MOUNT/encrypt/NAME" { capabilities = ["update"] }
    path "MOUNT/decrypt/NAME" { capabilities = ["update"] }

The server has no name for a key that outlives its versions, so an identity belongs to a version: see `KeyDescription`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from twinlock.keys.ports import Clock, KeyDescription, WrappedKey
from twinlock.keys.root_payload import PAYLOAD_BYTES
from twinlock.vaults.openbao.answers import (
    AES_BYTES,
    TransitKey,
    ciphertext_text,
    encoded,
    is_ciphertext,
    read_ciphertext,
    read_key,
    read_payload,
)
from twinlock.vaults.openbao.classify import classify
from twinlock.vaults.openbao.client import Answer, Client
from twinlock.vaults.openbao.login import Credentials
from twinlock.vaults.openbao.reasons import Reason, VaultFault
from twinlock.vaults.openbao.settings import OpenBaoServer, OpenBaoSettings
from twinlock.vaults.openbao.uris import base_url, operation_path, parse_bao_uri
from twinlock.vaults.uris import KeyUri

T = TypeVar("T")

# No type of key has this name: where there is no key, the server must not make one for us.
_NO_NEW_KEY = "none"
AES = "aes256-gcm96"
_TAKEN = (200, 400)  # who is answered so was let in


class OpenBaoVault:
    """Implement `Vault` over every server that the settings name; each has one session and one login of its own."""

    def __init__(self, settings: OpenBaoSettings, secrets: Path, clock: Clock) -> None:
        self._settings = settings
        self._secrets = secrets
        self._clock = clock
        self._servers: dict[str, _Server] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({sorted(self._settings.servers)})"

    def locate(self, uri: str) -> KeyUri:
        """Split a URI into its parts, or raise BadKeyUri."""
        return parse_bao_uri(uri, self._settings.allow_http)

    async def describe(self, uri: str, version: str | None = None) -> KeyDescription:
        """Describe one version of a key (default: the newest); `Denied` where it may not decrypt any more."""
        return await self._answer(uri, lambda: self._describe(uri, version))

    async def wrap(self, uri: str, payload: bytes, context: bytes) -> WrappedKey:
        """Wrap 64 bytes under the newest version of a key."""
        return await self._answer(uri, lambda: self._wrap(uri, payload, context))

    async def unwrap(self, wrapped: WrappedKey, context: bytes) -> bytes:
        """Return the 64 bytes; `Denied` where they do not decrypt because the key was made again."""
        return await self._answer(wrapped.uri, lambda: self._unwrap(wrapped, context))

    async def close(self) -> None:
        """Close every session."""
        servers, self._servers = self._servers, {}
        for server in servers.values():
            await server.client.close()

    async def _answer(self, uri: str, work: Callable[[], Awaitable[T]]) -> T:
        """Be the seam of the port: whatever goes wrong leaves as a vault failure, and nothing takes longer."""
        try:
            async with asyncio.timeout(self._settings.deadline):
                return await work()
        except Exception as fault:  # noqa: BLE001 - the seam: nothing but the five classes may leave
            raise classify(fault, uri) from None  # the cause may hold key material in its frames

    async def _describe(self, uri: str, version: str | None) -> KeyDescription:
        return (await self._read(self.locate(uri))).describe(version)

    async def _wrap(self, uri: str, payload: bytes, context: bytes) -> WrappedKey:
        if len(payload) != PAYLOAD_BYTES:
            raise VaultFault(Reason.WRONG_SIZE)
        key = self.locate(uri)
        found = await self._read(key)
        newest = found.describe()
        body = {"plaintext": encoded(payload), "key_version": found.latest, "type": _NO_NEW_KEY}
        if found.type == AES:
            body |= _associated(context)
        answer = await self._server(key).ask("POST", operation_path(key, "encrypt"), body)
        return WrappedKey(str(key), newest.version, newest.identity, read_ciphertext(answer.section, newest.version))

    async def _unwrap(self, wrapped: WrappedKey, context: bytes) -> bytes:
        key = self.locate(wrapped.uri)
        try:
            return await self._decrypt(key, wrapped, context)
        except VaultFault as fault:
            if fault.reason is not Reason.NOT_DECRYPTED:
                raise
        raise await self._second_look(key, wrapped)

    async def _decrypt(self, key: KeyUri, wrapped: WrappedKey, context: bytes) -> bytes:
        if not is_ciphertext(wrapped.ciphertext):
            raise VaultFault(Reason.NOT_DECRYPTED)
        body = {"ciphertext": ciphertext_text(wrapped.ciphertext, wrapped.version)}
        if len(wrapped.ciphertext) == AES_BYTES:
            body |= _associated(context)
        return read_payload((await self._server(key).ask("POST", operation_path(key, "decrypt"), body)).section)

    async def _second_look(self, key: KeyUri, wrapped: WrappedKey) -> VaultFault:
        """Say why bytes did not decrypt: the key is another one, or lost the version, or else they are corrupt."""
        try:
            found = await self._read(key)
            if not found.describe().is_key(wrapped.identity):
                return VaultFault(Reason.REPLACED)
            found.describe(wrapped.version)
        except VaultFault as fault:
            gone = {Reason.UNKNOWN_KEY: Reason.GONE}
            lost = (Reason.DELETED, Reason.VERSION_GONE, Reason.VERSION_REFUSED, Reason.UNKNOWN_KEY)
            return VaultFault(gone.get(fault.reason, fault.reason) if fault.reason in lost else Reason.NOT_DECRYPTED)
        return VaultFault(Reason.NOT_DECRYPTED)

    async def _read(self, key: KeyUri) -> TransitKey:
        return read_key(str(key), (await self._server(key).ask("GET", operation_path(key, "keys"))).section)

    def _server(self, key: KeyUri) -> "_Server":
        if key.vault_uri not in self._servers:
            if key.vault not in self._settings.servers:
                raise VaultFault(Reason.NO_LOGIN)
            own = self._settings.servers[key.vault]
            self._servers[key.vault_uri] = _Server(base_url(key), own, self._settings, self._secrets, self._clock)
        return self._servers[key.vault_uri]


class _Server:
    """Hold one server's session and our login to it."""

    def __init__(self, base: str, own: OpenBaoServer, all_: OpenBaoSettings, secrets: Path, clock: Clock) -> None:
        ca_file = None if own.ca_file is None else secrets / own.ca_file
        self.client = Client(base, ca_file, all_.connections, all_.deadline)
        self._credentials = Credentials(own.login(secrets), own.namespace_path, self.client, clock)

    async def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Answer:
        """Return the answer to one request; where our token is refused, a fresh one is tried once."""
        lease = await self._credentials.lease()
        answer = await self.client.send(method, path, body, lease.token)
        if answer.status == 403:
            another = await self._credentials.after_refusal(lease)
            if another is not lease:
                answer = await self.client.send(method, path, body, another.token)
        elif answer.status in _TAKEN:
            lease.proven = True
        return answer


def _associated(context: bytes) -> dict[str, str]:
    return {"associated_data": encoded(context)} if context else {}
