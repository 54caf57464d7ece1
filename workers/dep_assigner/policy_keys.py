"""Store and destroy policy key generations with their wrapped copies."""

from sqlalchemy import delete, exists, insert, select

from twinlock.custody.port import MadePolicyKey
from twinlock.store.tables.content import container_keys
from twinlock.store.tables.custody import policy_key_copies, policy_keys
from twinlock.store.unit import Unit


async def store_policy_key(unit: Unit, policy_id: str, generation: int, made: MadePolicyKey) -> None:
    """Store a new generation with its copies."""
    await unit.execute(
        insert(policy_keys).values(
            policy_id=policy_id, generation=generation, commitment=made.commitment, created_at=unit.clock.now()
        )
    )
    await _insert_copies(unit, policy_id, generation, made)


async def replace_copies(unit: Unit, policy_id: str, generation: int, made: MadePolicyKey) -> None:
    """Replace the copies of a generation; each new one has been unwrapped before the old ones go."""
    row = policy_key_copies.c
    await unit.execute(delete(policy_key_copies).where(row.policy_id == policy_id, row.generation == generation))
    await _insert_copies(unit, policy_id, generation, made)


async def destroy_unused(unit: Unit, policy_id: str, newest: int) -> None:
    """Destroy the older generations that no container key is wrapped by any more; the database refuses any other."""
    key = policy_keys.c
    used = exists(
        select(container_keys.c.container_id).where(
            container_keys.c.policy_id == key.policy_id, container_keys.c.policy_key_generation == key.generation
        )
    )
    rows = await unit.rows(select(key.generation).where(key.policy_id == policy_id, key.generation < newest, ~used))
    gone = [row.generation for row in rows]
    if gone:
        copy = policy_key_copies.c
        await unit.execute(delete(policy_key_copies).where(copy.policy_id == policy_id, copy.generation.in_(gone)))
        await unit.execute(delete(policy_keys).where(key.policy_id == policy_id, key.generation.in_(gone)))


async def _insert_copies(unit: Unit, policy_id: str, generation: int, made: MadePolicyKey) -> None:
    await unit.execute(
        insert(policy_key_copies),
        [
            {
                "policy_id": policy_id,
                "generation": generation,
                "slot": slot,
                "uri": copy.uri,
                "key_version": copy.version,
                "identity": copy.identity,
                "ciphertext": copy.ciphertext,
            }
            for slot, copy in made.copies
        ],
    )
