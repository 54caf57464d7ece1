"""Keys on PKCS#11 tokens: root keys and availability keys at `pkcs11:token=NAME;object=LABEL`.

Keys are AES-256, and wrap with AES-GCM. PKCS#11 has no name for a key that outlives its versions, so an identity
belongs to a version: see `KeyDescription`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

from twinlock.keys.ports import Clock, Destruction, KeyDescription, WrappedKey
from twinlock.keys.root_payload import PAYLOAD_BYTES
from twinlock.vaults.pkcs11.answers import (
    TokenKeys,
    is_version,
    read_ciphertext,
    read_keys,
    read_payload,
    split_ciphertext,
)
from twinlock.vaults.pkcs11.classify import classify
from twinlock.vaults.pkcs11.frames import packed
from twinlock.vaults.pkcs11.keeper import COMMAND, Keeper
from twinlock.vaults.pkcs11.reasons import Reason, VaultFault
from twinlock.vaults.pkcs11.settings import Pkcs11Settings
from twinlock.vaults.pkcs11.uris import TokenKey, parse_pkcs11_uri

T = TypeVar("T")

_MOST_CONTEXT_BYTES = 8192
_MAY_BE_PAST = (
    Reason.UNKNOWN_KEY,
    Reason.GONE,
    Reason.REPLACED,
    Reason.VERSION_GONE,
    Reason.SWITCHED_OFF,
    Reason.AMBIGUOUS,
)


class Pkcs11Vault:
    """Implement `DestroyingVault` over every token that the settings name; each has a process of its own.

    `command` is there for tests, which put another program in the place of that process.
    """

    def __init__(self, settings: Pkcs11Settings, secrets: Path, clock: Clock, command: Sequence[str] = COMMAND) -> None:
        self._settings = settings
        self._secrets = secrets
        self._clock = clock
        self._command = command
        self._keepers: dict[str, Keeper] = {}

    def __repr__(self) -> str:
        return f"Pkcs11Vault({sorted(self._settings.tokens)})"

    def locate(self, uri: str) -> TokenKey:
        """Split a URI into its parts, or raise BadKeyUri."""
        return parse_pkcs11_uri(uri)

    def keeper(self, token: str) -> Keeper:
        """Return who keeps a token of that label, or raise the fault that none is set up."""
        if token not in self._keepers:
            if token not in self._settings.tokens:
                raise VaultFault(Reason.NOT_SET_UP)
            own = self._settings.tokens[token]
            self._keepers[token] = Keeper(token, own, self._settings, self._secrets, self._clock, self._command)
        return self._keepers[token]

    async def describe(self, uri: str, version: str | None = None) -> KeyDescription:
        """Describe one version of a key (default: the newest); `Denied` where its owner lets nobody use it."""
        return await self._answer(uri, lambda call: call.judged(lambda keys: keys.describe(version)))

    async def wrap(self, uri: str, payload: bytes, context: bytes) -> WrappedKey:
        """Wrap 64 bytes under the newest version of a key."""
        return await self._answer(uri, lambda call: _wrap(call, payload, context))

    async def unwrap(self, wrapped: WrappedKey, context: bytes) -> bytes:
        """Return the 64 bytes; `Denied` where they do not decrypt because the key was made again."""
        return await self._answer(wrapped.uri, lambda call: _unwrap(call, wrapped, context))

    async def create(self, uri: str) -> KeyDescription:
        """Make an availability key, or find the one that a repeat of the same request made before.

        A name whose key was destroyed is `Denied`: a late repeat must not bring a purged name back.
        """
        return await self._answer(uri, _create)

    async def destroy(self, uri: str) -> Destruction:
        """Destroy an availability key for good, at once; one that is gone is no error."""
        return await self._answer(uri, _destroy)

    async def close(self) -> None:
        """End the process of every token."""
        keepers, self._keepers = self._keepers, {}
        for keeper in keepers.values():
            await keeper.close()

    async def _answer(self, uri: str, work: Callable[["_Call"], Awaitable[T]]) -> T:
        """Be the seam of the port: whatever goes wrong leaves as a vault failure, and nothing takes longer."""
        try:
            key = self.locate(uri)
            until = asyncio.get_running_loop().time() + self._settings.deadline
            return await work(_Call(key, self.keeper(key.token), until))
        except Exception as fault:  # noqa: BLE001 - the seam: nothing but the five classes may leave
            raise classify(fault, uri) from None  # the cause may hold key material in its frames


class _Call:
    """Hold one call of the port: the key, who keeps its token, and until when there is time."""

    def __init__(self, key: TokenKey, keeper: Keeper, until: float) -> None:
        self.uri = str(key)
        self._label = key.label
        self._keeper = keeper
        self._until = until

    async def ask(self, operation: str, **what: object) -> dict[str, object]:
        """Return what the token's process answers."""
        return await self._keeper.ask({"operation": operation, "label": self._label, **what}, self._until)

    async def keys(self, *, fresh: bool = False) -> TokenKeys:
        """Return what lies under the label; `fresh` begins anew with the library, which may show what was."""
        return read_keys(self.uri, await self.ask("look", fresh=fresh))

    async def judged(self, judge: Callable[[TokenKeys], T]) -> T:
        """Return what a look at the key comes to; before it comes to a fault, it is looked at anew."""
        try:
            return judge(await self.keys())
        except VaultFault as fault:
            if fault.reason not in _MAY_BE_PAST:
                raise
        return judge(await self.keys(fresh=True))


async def _wrap(call: _Call, payload: bytes, context: bytes) -> WrappedKey:
    if len(payload) != PAYLOAD_BYTES or len(context) > _MOST_CONTEXT_BYTES:
        raise VaultFault(Reason.WRONG_SIZE)
    newest = await call.judged(_wrapping)
    answer = await call.ask("encrypt", version=newest.version, data=packed(payload), context=packed(context))
    if answer.get("absent") is True:
        await call.judged(lambda keys: keys.check_wraps(newest.version))
        raise VaultFault(Reason.STALE)
    return WrappedKey(call.uri, newest.version, newest.identity, read_ciphertext(answer))


def _wrapping(keys: TokenKeys) -> KeyDescription:
    found = keys.describe()
    keys.check_wraps(found.version)
    return found


async def _unwrap(call: _Call, wrapped: WrappedKey, context: bytes) -> bytes:
    answer = await _decrypted(call, wrapped, context)
    if answer.get("absent") is True:
        await call.judged(lambda keys: keys.check_unwraps(wrapped.version, wrapped.identity))
        answer = await _decrypted(call, wrapped, context)
        if answer.get("absent") is True:
            raise VaultFault(Reason.STALE)
    return read_payload(answer)


async def _decrypted(call: _Call, wrapped: WrappedKey, context: bytes) -> dict[str, object]:
    """Return what the token says; where the bytes do not decrypt, look whether the key is another one."""
    if not is_version(wrapped.version):
        return {"absent": True}
    try:
        nonce, data = split_ciphertext(wrapped.ciphertext)
        sealed = {"nonce": packed(nonce), "data": packed(data), "context": packed(context)}
        return await call.ask("decrypt", version=wrapped.version, **sealed)
    except VaultFault as fault:
        if fault.reason not in (Reason.NOT_DECRYPTED, Reason.FORBIDDEN):
            raise
        await call.judged(lambda keys: keys.check_unwraps(wrapped.version, wrapped.identity))
        raise


async def _create(call: _Call) -> KeyDescription:
    keys = read_keys(call.uri, await call.ask("create", fresh=True))
    keys.check_ours()
    return keys.describe()


async def _destroy(call: _Call) -> Destruction:
    await call.ask("destroy", fresh=True)
    return Destruction()
