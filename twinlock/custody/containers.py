"""Container keys as they are stored: read them, open them, wrap them; everything but the reading is pure."""

import hmac
from collections.abc import Sequence

from sqlalchemy import select, tuple_

from twinlock.custody.errors import GenerationGone
from twinlock.custody.port import ContainerRef, WrappedContainerKey
from twinlock.keys.context import ContainerKeyContext
from twinlock.keys.errors import DecryptionError
from twinlock.keys.secret import SecretKey
from twinlock.keys.wrap import unwrap_key, wrap_key
from twinlock.store.tables.content import container_keys
from twinlock.store.unit import Reader


async def read_wrapped(reader: Reader, refs: Sequence[ContainerRef]) -> Sequence[WrappedContainerKey]:
    """Read wrapped container keys, in the order asked for; GenerationGone if one is destroyed."""
    columns = container_keys.c
    wanted = [(ref.container_id, ref.generation) for ref in refs]
    rows = await reader.rows(select(container_keys).where(tuple_(columns.container_id, columns.generation).in_(wanted)))
    found = {(row.container_id, row.generation): row for row in rows}
    if not found.keys() >= set(wanted):
        raise GenerationGone
    stored = [found[name] for name in wanted]
    return [
        WrappedContainerKey(ref, row.policy_id, row.policy_key_generation, row.commitment, row.wrapped)
        for ref, row in zip(refs, stored, strict=True)
    ]


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
