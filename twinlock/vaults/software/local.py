"""The embedded vault: software keys in a folder, for trying, for tests, and for a small service's availability keys."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from twinlock.keys.ports import Clock
from twinlock.vaults.software.folder import FolderShelf
from twinlock.vaults.software.material import RsaMaterial, generate_rsa_key
from twinlock.vaults.software.vault import SoftwareVault

SCHEME = "local"
_THREADS = 4

T = TypeVar("T")


class LocalVault(SoftwareVault):
    """Keep the keys of `local://VAULT/KEY` in files below `root`; several processes may share it.

    Root keys are RSA-3072, availability keys AES-256. `generate` is there for tests, which can't wait up to a second
    for every key: they hand out prepared ones.
    """

    def __init__(self, root: Path, clock: Clock, generate: Callable[[], RSAPrivateKey] = generate_rsa_key) -> None:
        super().__init__(FolderShelf(root), clock, lambda: RsaMaterial(generate()), SCHEME)
        self._root = root
        # Threads of its own: behind the encryption of large files a call would wait longer than its deadline allows.
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="local-vault")

    def __repr__(self) -> str:
        return f"LocalVault({str(self._root)!r})"

    async def _off_loop(self, work: Callable[[], T]) -> T:
        """Work in a thread; a cancelled call ends when its thread has, so that no change is made after the caller left.

        A thread can't be stopped. This one takes milliseconds, a second where it generates a key.
        """
        answer = asyncio.get_running_loop().run_in_executor(self._threads, work)
        try:
            return await asyncio.shield(answer)
        except asyncio.CancelledError:
            await asyncio.wait([answer])
            raise
