"""Azure Key Vault and Managed HSM: root keys at `https://NAME.vault.azure.net/keys/KEY`, RSA in software or in an HSM.

The customer grants our application three things and keeps the rest: get, wrapKey and unwrapKey. Without the right to
list, versions are known one by one, so an identity belongs to a version: see `KeyDescription`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from azure.core.exceptions import AzureError

from twinlock.keys.ports import KeyDescription, WrappedKey
from twinlock.keys.root_payload import PAYLOAD_BYTES
from twinlock.vaults.azure.answers import (
    ALGORITHM,
    RSA_BYTES,
    AzureKey,
    check_version,
    encoded,
    read_ciphertext,
    read_key,
    read_payload,
    version_of,
)
from twinlock.vaults.azure.classify import classify
from twinlock.vaults.azure.client import Client
from twinlock.vaults.azure.login import Logins
from twinlock.vaults.azure.reasons import Reason, VaultFault
from twinlock.vaults.azure.settings import AzureSettings
from twinlock.vaults.azure.transport import Sessions
from twinlock.vaults.azure.uris import is_version, parse_azure_uri
from twinlock.vaults.uris import KeyUri

T = TypeVar("T")

_WORTH_A_LOOK = {Reason.NOT_DECRYPTED: Reason.NOT_DECRYPTED, Reason.UNKNOWN_KEY: Reason.UNKNOWN}


class AzureVault:
    """Implement `Vault` over every vault of Azure that a key's URI names; our logins are shared by all of them."""

    def __init__(self, settings: AzureSettings, secrets: Path) -> None:
        self._settings = settings
        self._secrets = secrets
        self._sessions = Sessions(settings.deadline, settings.connections)
        self._logins = Logins(settings, secrets, self._sessions)
        self._clients: dict[str, Client] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({sorted(self._settings.directories)})"

    def locate(self, uri: str) -> KeyUri:
        """Split a URI into its parts, or raise BadKeyUri."""
        return parse_azure_uri(uri, self._settings.vaults)

    async def describe(self, uri: str, version: str | None = None) -> KeyDescription:
        """Describe one version of a key (default: the newest); a disabled or expired key is described, not refused."""
        return await self._answer(uri, lambda: self._describe(uri, version))

    async def wrap(self, uri: str, payload: bytes, context: bytes) -> WrappedKey:
        """Wrap 64 bytes under the newest version of a key."""
        return await self._answer(uri, lambda: self._wrap(uri, payload))

    async def unwrap(self, wrapped: WrappedKey, context: bytes) -> bytes:
        """Return the 64 bytes; `Denied` where they do not decrypt because the key was made again."""
        return await self._answer(wrapped.uri, lambda: self._unwrap(wrapped))

    async def close(self) -> None:
        """Close every connection, and forget every token."""
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.close()
        await self._logins.close()
        await self._sessions.close()

    async def _answer(self, uri: str, work: Callable[[], Awaitable[T]]) -> T:
        """Be the seam of the port: whatever goes wrong leaves as a vault failure, and nothing takes longer."""
        try:
            async with asyncio.timeout(self._settings.deadline):
                return await work()
        except Exception as fault:  # noqa: BLE001 - the seam: nothing but the five classes may leave
            raise classify(fault, uri) from None  # the cause may hold key material in its frames

    async def _describe(self, uri: str, version: str | None) -> KeyDescription:
        key = self.locate(uri)
        return (await self._existing(key, None if version is None else check_version(version))).description

    async def _wrap(self, uri: str, payload: bytes) -> WrappedKey:
        if len(payload) != PAYLOAD_BYTES:
            raise VaultFault(Reason.WRONG_SIZE)
        key = self.locate(uri)
        newest = await self._existing(key)
        if not newest.description.enabled:  # the vault would wrap with it all the same
            raise VaultFault(Reason.DISABLED)
        used = newest.description
        try:
            found = await self._use(key, used.version, "wrapkey", payload)
        except VaultFault as fault:  # to wrap is not to decrypt
            raise VaultFault(Reason.UNKNOWN, fault.raw) if fault.reason is Reason.NOT_DECRYPTED else fault from None
        return WrappedKey(str(key), used.version, used.identity, read_ciphertext(key, found, newest))

    async def _unwrap(self, wrapped: WrappedKey) -> bytes:
        key = self.locate(wrapped.uri)
        try:
            return await self._decrypt(key, wrapped)
        except VaultFault as fault:
            if fault.reason not in _WORTH_A_LOOK:
                raise
            # A key that is missing, and there at the second look, says nothing.
            otherwise = VaultFault(_WORTH_A_LOOK[fault.reason], fault.raw, fault.request_id)
        raise await self._second_look(key, wrapped, otherwise)

    async def _decrypt(self, key: KeyUri, wrapped: WrappedKey) -> bytes:
        version = check_version(wrapped.version)
        if len(wrapped.ciphertext) not in RSA_BYTES:
            raise VaultFault(Reason.NOT_DECRYPTED)
        return read_payload(key, await self._use(key, version, "unwrapkey", wrapped.ciphertext), version)

    async def _second_look(self, key: KeyUri, wrapped: WrappedKey, otherwise: VaultFault) -> VaultFault:
        """Say why bytes did not decrypt: the key is gone, or another one, or lost the version, or they are corrupt."""
        pinned = version_of(wrapped.identity)
        try:
            found = await self._existing(key, wrapped.version)
            if is_version(pinned) and pinned != wrapped.version:  # the row's version was changed, or its identity
                found = await self._existing(key, pinned)
        except VaultFault as fault:
            if fault.reason is Reason.UNKNOWN_KEY:
                return VaultFault(Reason.GONE, fault.raw, fault.request_id)
            return fault if fault.reason in (Reason.DELETED, Reason.VERSION_GONE) else otherwise
        return otherwise if found.description.is_key(wrapped.identity) else VaultFault(Reason.REPLACED)

    async def _existing(self, key: KeyUri, version: str | None = None) -> AzureKey:
        """Read a key; where there is none, say what became of it."""
        try:
            return await self._read(key, version)
        except VaultFault as fault:
            if fault.reason is not Reason.UNKNOWN_KEY:
                raise
            missing = fault
        if await self._has(key, deleted(key)):
            raise VaultFault(Reason.DELETED, missing.raw, missing.request_id)
        if version is not None and await self._has(key, key.key):
            raise VaultFault(Reason.VERSION_GONE, missing.raw, missing.request_id)
        raise missing

    async def _read(self, key: KeyUri, version: str | None = None) -> AzureKey:
        path = key.key if version is None else f"{key.key}/{version}"
        return read_key(key, await self._ask(key, "GET", path), version)

    async def _has(self, key: KeyUri, path: str) -> bool:
        """Say whether a vault shows something; what is refused is not shown, and the first answer then stands."""
        try:
            await self._ask(key, "GET", path)
        except (VaultFault, AzureError):
            return False
        return True

    async def _use(self, key: KeyUri, version: str, operation: str, value: bytes) -> dict[str, Any]:
        body = {"alg": ALGORITHM, "value": encoded(value)}
        return await self._ask(key, "POST", f"{key.key}/{version}/{operation}", body)

    async def _ask(self, key: KeyUri, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the document of a success, or raise the fault that came instead."""
        return (await self._client(key).ask(method, path, body)).found

    def _client(self, key: KeyUri) -> Client:
        if key.vault not in self._clients:
            self._clients[key.vault] = Client(key, self._settings, self._secrets, self._sessions, self._logins)
        return self._clients[key.vault]


def deleted(key: KeyUri) -> str:
    """Return the path of a key that is deleted softly."""
    return f"deleted{key.key}"
