"""AWS KMS: root keys at `arn:aws:kms:REGION:ACCOUNT:key/ID`, symmetric and managed by the customer.

The customer grants us three actions on the key, and keeps the rest: kms:DescribeKey, kms:Encrypt and kms:Decrypt.
docs/vaults/aws.md has the policies.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from twinlock.keys.ports import Clock, KeyDescription, WrappedKey
from twinlock.keys.root_payload import PAYLOAD_BYTES
from twinlock.vaults.aws.accounts import Accounts, Attempt
from twinlock.vaults.aws.answers import (
    VERSION,
    KmsKey,
    context_of,
    is_ciphertext,
    read_ciphertext,
    read_key,
    read_payload,
)
from twinlock.vaults.aws.classify import classify
from twinlock.vaults.aws.reasons import Reason, VaultFault
from twinlock.vaults.aws.second_look import after_look, gone
from twinlock.vaults.aws.settings import AwsSettings
from twinlock.vaults.aws.uris import KmsUri, parse_key_arn

T = TypeVar("T")


class KmsVault:
    """Implement `Vault` over every account that the settings name."""

    def __init__(self, settings: AwsSettings, secrets: Path, clock: Clock) -> None:
        self._settings = settings
        self._accounts = Accounts(settings, secrets, clock)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({sorted(self._settings.accounts)})"

    def locate(self, uri: str) -> KmsUri:
        """Split a URI into its parts, or raise BadKeyUri."""
        return parse_key_arn(uri)

    async def describe(self, uri: str, version: str | None = None) -> KeyDescription:
        """Describe a key; `Denied` where it waits for its deletion or has no material."""
        return await self._answer(uri, lambda attempt: self._describe(attempt, uri, version))

    async def wrap(self, uri: str, payload: bytes, context: bytes) -> WrappedKey:
        """Wrap 64 bytes under a key."""
        return await self._answer(uri, lambda attempt: self._wrap(attempt, uri, payload, context))

    async def unwrap(self, wrapped: WrappedKey, context: bytes) -> bytes:
        """Return the 64 bytes; `Denied` where they do not decrypt because the key is another one."""
        return await self._answer(wrapped.uri, lambda attempt: self._unwrap(attempt, wrapped, context), gone)

    async def close(self) -> None:
        """Close every connection."""
        await self._accounts.close()

    async def _answer(
        self,
        uri: str,
        work: Callable[[Attempt], Awaitable[T]],
        judge: Callable[[VaultFault], VaultFault] = lambda fault: fault,
    ) -> T:
        """Be the seam of the port: whatever goes wrong leaves as a vault failure, and nothing takes longer."""
        attempt = Attempt()
        try:
            async with asyncio.timeout(self._settings.deadline):
                return await work(attempt)
        except Exception as fault:  # noqa: BLE001 - the seam: nothing but the five classes may leave
            if isinstance(fault, TimeoutError) and attempt.refusal is not None:
                fault = judge(attempt.refusal)
            raise classify(fault, uri) from None  # the cause may hold key material in its frames

    async def _describe(self, attempt: Attempt, uri: str, version: str | None) -> KeyDescription:
        if version not in (None, VERSION):
            raise VaultFault(Reason.VERSION_GONE)
        return (await self._look(attempt, self.locate(uri))).description

    async def _wrap(self, attempt: Attempt, uri: str, payload: bytes, context: bytes) -> WrappedKey:
        if len(payload) != PAYLOAD_BYTES:
            raise VaultFault(Reason.WRONG_SIZE)
        key = self.locate(uri)
        found = await self._look(attempt, key)
        if not found.description.enabled:
            raise VaultFault(Reason.DISABLED, found.state)
        asked = {"KeyId": found.arn, "Plaintext": payload, "EncryptionContext": context_of(context)}
        answer = await self._accounts.of(key).ask(attempt, "encrypt", **asked)
        return WrappedKey(str(key), VERSION, found.identity, read_ciphertext(found.arn, answer))

    async def _unwrap(self, attempt: Attempt, wrapped: WrappedKey, context: bytes) -> bytes:
        key = self.locate(wrapped.uri)
        if wrapped.version != VERSION:
            raise VaultFault(Reason.VERSION_GONE)
        try:
            if not is_ciphertext(wrapped.ciphertext):
                raise VaultFault(Reason.NOT_DECRYPTED)
            asked = {"CiphertextBlob": wrapped.ciphertext, "EncryptionContext": context_of(context)}
            # The key is pinned: the ciphertext names one as well, which may be anybody's.
            return read_payload(await self._accounts.of(key).ask(attempt, "decrypt", KeyId=self._target(key), **asked))
        except VaultFault as fault:
            first = attempt.refusal = fault
        raise await after_look(first, wrapped.identity, lambda: self._look(Attempt(), key))

    async def _look(self, attempt: Attempt, key: KmsUri) -> KmsKey:
        return read_key(key, await self._accounts.of(key).ask(attempt, "describe_key", KeyId=self._target(key)))

    def _target(self, key: KmsUri) -> str:
        """Return what a request names the key by."""
        return str(key)
