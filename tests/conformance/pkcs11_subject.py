"""PKCS#11 as a subject of the conformance suite: two real SoftHSM tokens, which can be taken out and put back."""

import secrets
from contextlib import AsyncExitStack
from pathlib import Path

from tests.servers.softhsm import TOKENS, SoftHsm
from twinlock.keys.ports import Clock, KeyDescription
from twinlock.vaults.administration import KeyState, KeyStatus, WrongKeyState
from twinlock.vaults.pkcs11.uris import parse_pkcs11_uri
from twinlock.vaults.pkcs11.vault import Pkcs11Vault


class Pkcs11Owner:
    """Look after the keys of two tokens as their owner would; every test has names of its own."""

    def __init__(self, softhsm: SoftHsm, folder: Path, clock: Clock, stack: AsyncExitStack) -> None:
        self.vault = Pkcs11Vault(softhsm.settings(folder / "pin"), folder, clock)
        self.form = f"pkcs11:token={{}};object={secrets.token_hex(4)}-{{}}"
        self._softhsm = softhsm
        stack.push_async_callback(self.vault.close)
        for token in TOKENS:
            stack.callback(self._let_answer, token)

    async def create(self, uri: str) -> KeyDescription:
        """Make a key; one that is switched off makes way for good."""
        self._softhsm.destroy(*self._key(uri))
        self._softhsm.make(*self._key(uri), b"\x01")
        return await self.vault.describe(uri)

    async def rotate(self, uri: str) -> KeyState:
        """Add a version: another key with the same label."""
        newest = int.from_bytes(self._softhsm.ids(*self._key(uri))[-1])
        self._softhsm.make(*self._key(uri), bytes([newest + 1]))
        return await self.state(uri)

    async def delete(self, uri: str) -> KeyState:
        """Switch a key off, which is what a token has in place of soft deletion."""
        self._softhsm.switch(*self._key(uri), on=False)
        return await self.state(uri)

    async def restore(self, uri: str) -> KeyState:
        """Switch a key on again."""
        if (await self.state(uri)).state is not KeyStatus.DELETED:
            raise WrongKeyState(f"{uri}: nothing to restore")
        self._softhsm.switch(*self._key(uri), on=True)
        return await self.state(uri)

    async def state(self, uri: str) -> KeyState:
        """Say where a key is in its life."""
        versions = tuple(f"{int.from_bytes(each):x}" for each in self._softhsm.ids(*self._key(uri)))
        if not versions:
            return KeyState(uri, "", KeyStatus.DESTROYED, ())
        state = KeyStatus.ENABLED if self._softhsm.is_on(*self._key(uri)) else KeyStatus.DELETED
        return KeyState(uri, versions[-1], state, versions)

    async def set_outage(self, token: str, on: bool) -> None:
        """Take a token out, or put it back."""
        (self._softhsm.remove if on else self._softhsm.put_back)(token)

    async def outage(self, token: str) -> bool:
        """Say whether a token is taken out."""
        return self._softhsm.is_removed(token)

    def _let_answer(self, token: str) -> None:
        if self._softhsm.is_removed(token):
            self._softhsm.put_back(token)

    def _key(self, uri: str) -> tuple[str, str]:
        key = parse_pkcs11_uri(uri)
        return key.token, key.label
