"""Container keys as they are stored: read them, open them, wrap them; everything but the reading is pure."""

import hmac
from collections.abc import Mapping, Sequence

from sqlalchemy import select, tuple_

from twinlock.custody.errors import GenerationGone
from twinlock.custody.port import ContainerRef, WrappedContainerKey
from twinlock.keys.context import ContainerKeyContext
from twinlock.keys.errors import DecryptionError
from twinlock.keys.secret import SecretKey
from twinlock.keys.wrap import unwrap_key, wrap_key
from twinlock.store.tables.content import container_keys
from twinlock.store.unit import Reader, Store
from twinlock.together import Together

_AT_ONCE, _LANES = 500, 4  # callers that share a read, and reads at a time


class StoredContainerKeys:
    """Read wrapped container keys, many callers' at once: in one statement, which began after all of them asked."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._reads = Together(self._read_all, _AT_ONCE, _LANES)

    async def read(self, ref: ContainerRef) -> WrappedContainerKey:
        """Read one key; GenerationGone if it is destroyed."""
        found = await self._reads(ref)
        if found is None:
            raise GenerationGone
        return found

    async def _read_all(self, refs: Sequence[ContainerRef]) -> Sequence[WrappedContainerKey | None]:
        async with self._store.glance() as reader:
            found = await _read(reader, list(dict.fromkeys(refs)))
        return [found.get(ref) for ref in refs]


async def read_wrapped(reader: Reader, refs: Sequence[ContainerRef]) -> Sequence[WrappedContainerKey]:
    """Read wrapped container keys, in the order asked for; GenerationGone if one is destroyed."""
    found = await _read(reader, refs)
    if not found.keys() >= set(refs):
        raise GenerationGone
    return [found[ref] for ref in refs]


async def _read(reader: Reader, refs: Sequence[ContainerRef]) -> Mapping[ContainerRef, WrappedContainerKey]:
    columns = container_keys.c
    wanted = [(ref.container_id, ref.generation) for ref in refs]
    rows = await reader.rows(select(container_keys).where(tuple_(columns.container_id, columns.generation).in_(wanted)))
    stored = {(row.container_id, row.generation): row for row in rows}
    return {
        ref: WrappedContainerKey(ref, row.policy_id, row.policy_key_generation, row.commitment, row.wrapped)
        for ref in refs
        if (row := stored.get((ref.container_id, ref.generation))) is not None
    }


def open_wrapped(policy_key: SecretKey, stored: WrappedContainerKey) -> SecretKey:
    """Return a container key, or raise DecryptionError."""
    context = _context(stored.ref, stored.policy_id, stored.policy_key_generation)
    key = unwrap_key(policy_key, stored.wrapped, context)
    if not hmac.compare_digest(key.commitment(), stored.commitment):
        key.wipe()
        raise DecryptionError
    return key


def wrap_under(
    policy_key: SecretKey, key: SecretKey, ref: ContainerRef, policy_id: str, generation: int
) -> WrappedContainerKey:
    """Wrap a container key under one generation of a policy key."""
    wrapped = wrap_key(policy_key, key, _context(ref, policy_id, generation))
    return WrappedContainerKey(ref, policy_id, generation, key.commitment(), wrapped)


def _context(ref: ContainerRef, policy_id: str, generation: int) -> ContainerKeyContext:
    return ContainerKeyContext(ref.tenant_id, policy_id, generation, ref.container_id, ref.generation)
