"""Vault calls other than opening a stored key, each with a deadline, each failure as the vault gave it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from schemas.identifiers import Slot
from twinlock.custody.guards import Guards
from twinlock.custody.operations import Account, Operation
from twinlock.custody.rows import StoredPolicyKey
from twinlock.custody.unwrap import CLASSIFIER, no_answer, unwrap_verified
from twinlock.keys.ports import Corrupt, Denied, KeyDescription, Vault, WrappedKey
from twinlock.keys.root_payload import seal
from twinlock.keys.secret import SecretKey


@dataclass(frozen=True, slots=True)
class VaultCalls:
    """Call one vault about one key; what comes too late for the caller is `Unavailable` as well."""

    vault: Vault
    uri: str
    guards: Guards
    account: Account  # whose budget it is
    deadline: float
    until: float  # on the event loop's clock: when the caller's own deadline is over

    def _patience(self) -> float:
        return min(self.deadline, self.until - asyncio.get_running_loop().time())

    async def describe(self, version: str | None = None) -> KeyDescription:
        """Describe one version of the key, by default the newest."""
        async with self._guarded(Operation.DESCRIBE):
            return await self.vault.describe(self.uri, version)

    async def is_key(self, described: KeyDescription, pinned: WrappedKey) -> bool:
        """Say whether what is described is the key that wrapped.

        A vendor may name the versions of a key one by one: then the key has the pinned one still, or is another.
        """
        if described.is_key(pinned.identity) or described.version == pinned.version:
            return described.is_key(pinned.identity)
        try:
            return (await self.describe(pinned.version)).is_key(pinned.identity)
        except Denied:
            return False

    async def wrap(self, key: SecretKey, stored: StoredPolicyKey, slot: Slot) -> WrappedKey:
        """Wrap a policy key for one slot, and have the vault unwrap it again before it counts as wrapped."""
        context = stored.context(slot)
        async with self._guarded(Operation.WRAP):
            wrapped = await self.vault.wrap(self.uri, seal(key, context), context.encode())
        with self.guards.around(self.uri, self.account, Operation.UNWRAP):
            again = await unwrap_verified(self.vault, wrapped, stored, slot, self._patience())
        again.wipe()
        return wrapped

    @asynccontextmanager
    async def _guarded(self, operation: Operation) -> AsyncIterator[None]:
        patience = self._patience()
        with self.guards.around(self.uri, self.account, operation):
            try:
                async with asyncio.timeout(patience):
                    yield
            except TimeoutError:
                raise no_answer(self.uri, patience, counts=patience >= self.deadline) from None

    async def wrap_described(
        self, key: SecretKey, stored: StoredPolicyKey, slot: Slot
    ) -> tuple[WrappedKey, KeyDescription]:
        """Wrap, and describe the version that wrapped: what is pinned is what was used."""
        wrapped = await self.wrap(key, stored, slot)
        description = await self.describe(wrapped.version)
        if not description.is_key(wrapped.identity):
            raise Corrupt(
                "the vault describes another key than the one that wrapped",
                uri=self.uri,
                raw="identity",
                classifier=CLASSIFIER,
                exact=True,
            )
        return wrapped, description
