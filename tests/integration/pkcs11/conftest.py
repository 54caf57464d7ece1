"""Two SoftHSM tokens, and a vault that reaches them."""

import secrets
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.servers.softhsm import TOKENS, SoftHsm
from twinlock.clock import ManualClock
from twinlock.keys.ports import Unavailable, VaultFailure, WrappedKey
from twinlock.vaults.pkcs11.vault import Pkcs11Vault

PAYLOAD, CONTEXT = bytes(range(64)), b"a policy key's place"
TOKEN, OTHER = TOKENS


@dataclass
class Bench:
    """Hold the tokens, and the label that this test's keys have."""

    tokens: SoftHsm
    folder: Path
    clock: ManualClock
    stack: AsyncExitStack
    label: str

    @property
    def uri(self) -> str:
        """Return the key's URI."""
        return f"pkcs11:token={TOKEN};object={self.label}"

    @property
    def pin_file(self) -> Path:
        """Return the file that the vault takes its PIN from."""
        return self.folder / "pin"

    def open(self, deadline: float = 60.0, **token: Any) -> Pkcs11Vault:
        """Open a vault; `token` changes the settings of its tokens."""
        given = self.tokens.settings(self.pin_file, deadline)
        changed = {name: replace(each, **token) for name, each in given.tokens.items()}
        vault = Pkcs11Vault(replace(given, tokens=changed), self.folder, self.clock)
        self.stack.push_async_callback(vault.close)
        return vault

    def make(self, id_: bytes = b"\x01", **template: Any) -> None:
        """Make the key, or a version of it."""
        self.tokens.make(TOKEN, self.label, id_, **template)

    async def wrap(self, vault: Pkcs11Vault) -> WrappedKey:
        """Make the key and wrap under it."""
        self.make()
        return await vault.wrap(self.uri, PAYLOAD, CONTEXT)


async def refused(call: Coroutine[Any, Any, object]) -> VaultFailure:
    """Return the failure with which a call ends."""
    with pytest.raises(VaultFailure) as caught:
        await call
    return caught.value


async def at_last(vault: Pkcs11Vault, wrapped: WrappedKey) -> bytes:
    """Unwrap as soon as the token can be asked again."""
    while True:
        try:
            return await vault.unwrap(wrapped, CONTEXT)
        except Unavailable:
            continue


@pytest.fixture
async def bench(softhsm: SoftHsm, tmp_path: Path, clock: ManualClock) -> AsyncIterator[Bench]:
    """Bring both tokens, in their places."""
    async with AsyncExitStack() as stack:
        yield Bench(softhsm, tmp_path, clock, stack, secrets.token_hex(4))
    for name in TOKENS:
        if softhsm.is_removed(name):
            softhsm.put_back(name)
