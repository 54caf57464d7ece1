"""Change under which key a container's content lies: a new generation, a rewrap of the old ones, their destruction."""

from collections.abc import Sequence

from sqlalchemy import delete, exists, insert, select, update

from twinlock.content.containers import Container
from twinlock.custody.port import WrappedContainerKey
from twinlock.store.tables.content import container_keys, containers, files, items
from twinlock.store.unit import StaleRead, Unit


async def add_generation(unit: Unit, stored: WrappedContainerKey) -> None:
    """Store a new key generation of a container that the unit has locked, or has just made."""
    await unit.execute(
        insert(container_keys).values(
            container_id=stored.ref.container_id,
            generation=stored.ref.generation,
            policy_id=stored.policy_id,
            policy_key_generation=stored.policy_key_generation,
            wrapped=stored.wrapped,
            commitment=stored.commitment,
            item_count=0,
            encrypted_count=0,
            created_at=unit.clock.now(),
        )
    )


async def switch(
    unit: Unit, locked: Container, newest: WrappedContainerKey, rewrapped: Sequence[WrappedContainerKey]
) -> int:
    """Put a locked container under a new generation, and its old ones under the same policy; it protects at once.

    A container that stays under the same policy key needs no rewrap: `rewrapped` is empty then. Return how many items
    are still under older generations; those that are empty are destroyed here.
    """
    if {key.ref.generation for key in rewrapped} != set(locked.live if _leaves(locked, newest) else ()):
        raise StaleRead
    for key in rewrapped:
        await _store_rewrapped(unit, key)
    await add_generation(unit, newest)
    await unit.execute(
        update(containers)
        .where(containers.c.id == locked.id)
        .values(
            policy_id=newest.policy_id,
            newest_generation=newest.ref.generation,
            version=containers.c.version + 1,
        )
    )
    await destroy_empty(unit, locked, sorted(locked.live))
    return locked.items


def _leaves(locked: Container, newest: WrappedContainerKey) -> bool:
    """Tell whether any live generation is wrapped by another policy key than the newest will be."""
    target = (newest.policy_id, newest.policy_key_generation)
    return any((key.policy_id, key.policy_key_generation) != target for key in locked.generations)


async def _store_rewrapped(unit: Unit, key: WrappedContainerKey) -> None:
    row = container_keys.c
    await unit.execute(
        update(container_keys)
        .where(row.container_id == key.ref.container_id, row.generation == key.ref.generation)
        .values(policy_id=key.policy_id, policy_key_generation=key.policy_key_generation, wrapped=key.wrapped)
    )


async def destroy_empty(unit: Unit, locked: Container, candidates: Sequence[int]) -> bool:
    """Destroy those generations of a locked container that a recount finds empty; the database refuses any other.

    The container's version moves, so that whoever read the old generations starts over.
    """
    row = container_keys.c
    content = files if locked.geo is not None else items
    if content is files:
        await _lift_folders(unit, locked)
    left = exists(
        select(content.c.id).where(content.c.container_id == row.container_id, content.c.generation == row.generation)
    )
    gone = await unit.execute(
        delete(container_keys).where(row.container_id == locked.id, row.generation.in_(candidates), ~left)
    )
    if gone.rowcount:
        await unit.execute(
            update(containers).where(containers.c.id == locked.id).values(version=containers.c.version + 1)
        )
    return bool(gone.rowcount)


async def _lift_folders(unit: Unit, locked: Container) -> None:
    """Put empty folders, for which no key is used, under the newest generation: they must not keep an old one."""
    row = files.c
    newest = select(containers.c.newest_generation).where(containers.c.id == locked.id).scalar_subquery()
    await unit.execute(
        update(files)
        .where(row.container_id == locked.id, row.generation != newest, row.object_name.is_(None))
        .values(generation=newest)
    )
