"""Compare reads of 4 KB with keys at hand: ours, and aws-encryption-sdk's caching provider, on the same bytes.

Told apart: decrypting alone, from bytes in memory, as the other one does it, where ours has to be at least ten times as
fast; and a whole read of ours, with its row from the database and its range from the object store. The other one is
measured in its default algorithm, which signs, and in the one that does not.
"""

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aws_encryption_sdk
from aws_encryption_sdk.identifiers import AlgorithmSuite, EncryptionKeyType, WrappingAlgorithm
from aws_encryption_sdk.internal.crypto.wrapping_keys import WrappingKey
from aws_encryption_sdk.key_providers.raw import RawMasterKeyProvider

from bench._site import ASKER, SITE, SiteBench, site_bench
from twinlock.keys.blobs import BlobOpener, SiteCipher
from twinlock.keys.context import BlobContext
from twinlock.keys.secret import SecretKey
from twinlock.keys.streaming import HEADER_BYTES, Layout

BYTES, READS, ROUNDS, BOUND = 4096, 300, 7, 10.0


class OneKey(RawMasterKeyProvider):  # type: ignore[misc]  # the library is not typed
    """Hold one AES key, as a vault that answers at once would."""

    provider_id = "bench"

    def __init__(self) -> None:
        super().__init__()
        self._wrapping = os.urandom(32)
        self.add_master_key("one")

    def _get_raw_key(self, key_id: object) -> WrappingKey:
        return WrappingKey(
            wrapping_algorithm=WrappingAlgorithm.AES_256_GCM_IV12_TAG16_NO_PADDING,
            wrapping_key=self._wrapping,
            wrapping_key_type=EncryptionKeyType.SYMMETRIC,
        )


def of_aws(plaintext: bytes, algorithm: AlgorithmSuite | None) -> Callable[[], bytes]:
    """Return a decryption whose data key is in the cache."""
    client = aws_encryption_sdk.EncryptionSDKClient()
    manager = aws_encryption_sdk.CachingCryptoMaterialsManager(
        master_key_provider=OneKey(), cache=aws_encryption_sdk.LocalCryptoMaterialsCache(100), max_age=3600.0
    )
    named = {} if algorithm is None else {"algorithm": algorithm}
    context = {"tenant": "acme", "site": "team"}
    sealed, _ = client.encrypt(source=plaintext, materials_manager=manager, encryption_context=context, **named)

    def decrypt() -> bytes:
        opened: bytes = client.decrypt(source=sealed, materials_manager=manager)[0]
        return opened

    return decrypt


def of_ours(plaintext: bytes) -> Callable[[], bytes]:
    """Return a decryption whose site key is at hand: blob key, length, last segment and all."""
    cipher = SiteCipher(SecretKey.generate())
    context = BlobContext("acme", "team", 1, "file", 1)
    key, wrapped = cipher.make(context)
    encrypter = key.encrypter()
    sealed = memoryview(b"".join((encrypter.update(plaintext), encrypter.finish())))
    layout = Layout(len(plaintext))

    def decrypt() -> bytes:
        opened = cipher.open(wrapped, context)
        opener = BlobOpener(opened.opener(sealed[:HEADER_BYTES]), layout, len(sealed), sealed[HEADER_BYTES:])
        return opener.open(0, sealed[HEADER_BYTES:])

    return decrypt


def each(decrypt: Callable[[], bytes], expected: bytes) -> float:
    """Return how long one takes, as one of many."""
    if decrypt() != expected:
        raise SystemExit("what came out is not what went in")
    began = time.perf_counter()
    for _ in range(READS):
        decrypt()
    return (time.perf_counter() - began) / READS


async def put(bench: SiteBench, plaintext: bytes) -> None:
    """Put the file."""

    async def once() -> AsyncIterator[bytes]:
        yield plaintext

    await bench.files.put(SITE, b"small", once(), ASKER)


async def whole(bench: SiteBench) -> float:
    """Return how long a whole read takes, as one of many."""
    began = time.perf_counter()
    for _ in range(READS):
        async for _chunk in bench.files.get(SITE, b"small", ASKER):
            pass
    return (time.perf_counter() - began) / READS


async def measure(folder: Path) -> bool:
    """Have all of them read in turn, and tell; return whether the bound holds."""
    plaintext = os.urandom(BYTES)
    unsigned = AlgorithmSuite.AES_256_GCM_HKDF_SHA512_COMMIT_KEY
    decrypts = {
        "ours": of_ours(plaintext),
        "theirs": of_aws(plaintext, None),
        "theirs, unsigned": of_aws(plaintext, unsigned),
    }
    taken: dict[str, list[float]] = {name: [] for name in (*decrypts, "ours, whole")}
    async with site_bench(folder) as bench:
        await put(bench, plaintext)
        for _ in range(ROUNDS):
            for name, decrypt in decrypts.items():
                taken[name].append(each(decrypt, plaintext))
            taken["ours, whole"].append(await whole(bench))
    medians = {name: statistics.median(rounds) for name, rounds in taken.items()}
    for name, seconds in medians.items():
        print(f"{name:16} {1e6 * seconds:8.0f} us", flush=True)
    for name in ("theirs", "theirs, unsigned"):
        print(f"decrypting: {medians[name] / medians['ours']:.1f} times as fast as {name} (at least {BOUND:.0f})")
        print(f"a whole read: {medians[name] / medians['ours, whole']:.1f} times as fast as {name}")
    return medians["theirs"] >= BOUND * medians["ours"]


def main() -> int:
    """Measure, and fail where the bound is missed."""
    with tempfile.TemporaryDirectory(prefix="twinlock-bench-") as folder:
        return int(not asyncio.run(measure(Path(folder))))


if __name__ == "__main__":
    sys.exit(main())
