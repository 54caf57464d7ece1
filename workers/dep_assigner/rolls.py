"""Containers that a roll of the policy key has still to bring along."""

from sqlalchemy import select

from twinlock.content import containers
from twinlock.content.containers import Container
from twinlock.custody.policies import Policy
from twinlock.store.tables.content import container_keys
from twinlock.store.unit import Reader


async def left_behind(reader: Reader, policy: Policy, after: str, most: int) -> list[Container]:
    """Return up to `most` containers behind the id `after` with a key that an older generation wraps."""
    key = container_keys.c
    ids = await reader.rows(
        select(key.container_id)
        .where(
            key.policy_id == policy.id,
            key.policy_key_generation < policy.newest_generation,
            key.container_id > after,
        )
        .group_by(key.container_id)
        .order_by(key.container_id)
        .limit(most)
    )
    return await containers.load_all(reader, [row.container_id for row in ids])
