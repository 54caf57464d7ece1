"""Change under which key a container's content lies: a new generation, a rewrap of the old ones, their destruction."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement, Exists, Table, bindparam, delete, exists, insert, or_, select, update

from twinlock.content.containers import Container, is_as_read, lock_all
from twinlock.custody.port import WrappedContainerKey
from twinlock.store.tables.content import container_keys, container_wraps, containers, files, items
from twinlock.store.tables.custody import policies
from twinlock.store.unit import StaleRead, Unit


@dataclass(frozen=True, slots=True)
class Switch:
    """Hold what puts a container, as it was read, under a new key: that key, and all of its older ones rewrapped."""

    seen: Container
    newest: WrappedContainerKey
    rewrapped: tuple[WrappedContainerKey, ...]


async def add_generation(unit: Unit, stored: WrappedContainerKey) -> None:
    """Store a new key generation of a container that the unit has locked, or has just made."""
    await unit.execute(insert(container_keys).values(_new_row(unit, stored)))


async def add_first(unit: Unit, stored: WrappedContainerKey) -> None:
    """Store the first key of a new container, or raise `StaleRead` where its policy has a newer policy key by now.

    The policy's row stays locked until the unit ends: a roll is noticed here, or finds the container.
    """
    policy = select(policies.c.newest_generation).where(policies.c.id == stored.policy_id)
    if await unit.scalar(policy.with_for_update(read=True)) != stored.policy_key_generation:
        raise StaleRead
    await add_generation(unit, stored)


async def renew(unit: Unit, locked: Container, newest: WrappedContainerKey) -> int:
    """Put a locked container under a new generation within its policy; it protects at once.

    Nothing is rewrapped, so that a move needs no roll that is under way to get on: what an older policy key wraps is
    re-encrypted, or that roll brings it along. Return how many items are still under older generations; those that are
    empty are destroyed here. Raise `StaleRead` where the key was made under another policy.
    """
    if newest.policy_id != locked.policy_id:
        raise StaleRead
    await _switch(unit, [locked], [newest], ())
    return locked.items


async def switch_all(unit: Unit, switches: Sequence[Switch]) -> list[Container]:
    """Lock containers and switch those that still are as they were read; return these, as they were before.

    The others are for another batch: one that changed must not hold up the rest.
    """
    locked = await lock_all(unit, [switch.seen.id for switch in switches])
    fresh = [each for each in switches if each.seen.id in locked and is_as_read(locked[each.seen.id], each.seen)]
    rewrapped = [key for each in fresh for key in each.rewrapped]
    if fresh:
        await _switch(unit, [locked[each.seen.id] for each in fresh], [each.newest for each in fresh], rewrapped)
    return [locked[each.seen.id] for each in fresh]


async def _switch(
    unit: Unit,
    locked: Sequence[Container],
    newest: Sequence[WrappedContainerKey],
    rewrapped: Sequence[WrappedContainerKey],
) -> None:
    if rewrapped:
        await _remember(unit, locked, newest)
        await unit.execute(_REWRAP, [_rewrapped_row(key) for key in rewrapped])
    await unit.execute(insert(container_keys), [_new_row(unit, key) for key in newest])
    await unit.execute(_POINT, [_pointing_row(key) for key in newest])
    ids = [key.ref.container_id for key in newest]
    await _destroy_replaced(unit, ids)


async def _remember(unit: Unit, locked: Sequence[Container], newest: Sequence[WrappedContainerKey]) -> None:
    """Keep which policy wrapped the keys until now: backups of before are readable through it (a purge names it)."""
    left = [
        {"container_id": each.id, "policy_id": key.policy_id, "generation": key.number, "until": unit.clock.now()}
        for each, target in zip(locked, newest, strict=True)
        for key in {key.policy_id: key for key in each.generations}.values()
        if key.policy_id != target.policy_id
    ]
    if left:
        await unit.execute(
            _FORGET_WRAP, [{"of_container": r["container_id"], "of_policy": r["policy_id"]} for r in left]
        )
        await unit.execute(insert(container_wraps), left)


async def _destroy_replaced(unit: Unit, ids: Sequence[str]) -> None:
    """Destroy the generations of switched containers that nothing is left under; their versions have moved already."""
    key = container_keys.c
    newest = select(containers.c.newest_generation).where(containers.c.id == key.container_id).scalar_subquery()
    await unit.execute(delete(container_keys).where(key.container_id.in_(ids), key.generation < newest, ~_used()))


async def destroy_empty(unit: Unit, locked: Container, candidates: Sequence[int]) -> bool:
    """Destroy those generations of a locked container that a recount finds empty; the database refuses any other.

    The container's version moves, so that whoever read the old generations starts over.
    """
    row = container_keys.c
    gone = await unit.execute(
        delete(container_keys).where(row.container_id == locked.id, row.generation.in_(candidates), ~_used())
    )
    if gone.rowcount:
        await unit.execute(
            update(containers).where(containers.c.id == locked.id).values(version=containers.c.version + 1)
        )
    return bool(gone.rowcount)


def _used() -> ColumnElement[bool]:
    """Say that something lies under a generation: an item, or a file."""
    key = container_keys.c
    return or_(*(_has(table, key.container_id, key.generation) for table in (items, files)))


def _has(table: Table, container_id: Column[str], generation: Column[int]) -> Exists:
    return exists(select(table.c.id).where(table.c.container_id == container_id, table.c.generation == generation))


_FORGET_WRAP = delete(container_wraps).where(
    container_wraps.c.container_id == bindparam("of_container"), container_wraps.c.policy_id == bindparam("of_policy")
)
# Written by name: executemany with changing keys has to be told apart from the columns it sets.
_REWRAP = (
    update(container_keys)
    .where(
        container_keys.c.container_id == bindparam("at_container"),
        container_keys.c.generation == bindparam("at_generation"),
    )
    .values(
        policy_id=bindparam("to_policy"),
        policy_key_generation=bindparam("to_key_generation"),
        wrapped=bindparam("to_wrapped"),
    )
)
_POINT = (
    update(containers)
    .where(containers.c.id == bindparam("at_container"))
    .values(
        policy_id=bindparam("to_policy"),
        newest_generation=bindparam("to_generation"),
        version=containers.c.version + 1,
    )
)


def _rewrapped_row(key: WrappedContainerKey) -> dict[str, Any]:
    return {
        "at_container": key.ref.container_id,
        "at_generation": key.ref.generation,
        "to_policy": key.policy_id,
        "to_key_generation": key.policy_key_generation,
        "to_wrapped": key.wrapped,
    }


def _pointing_row(key: WrappedContainerKey) -> dict[str, Any]:
    return {
        "at_container": key.ref.container_id,
        "to_policy": key.policy_id,
        "to_generation": key.ref.generation,
    }


def _new_row(unit: Unit, key: WrappedContainerKey) -> dict[str, Any]:
    return {
        "container_id": key.ref.container_id,
        "generation": key.ref.generation,
        "policy_id": key.policy_id,
        "policy_key_generation": key.policy_key_generation,
        "wrapped": key.wrapped,
        "commitment": key.commitment,
        "item_count": 0,
        "encrypted_count": 0,
        "created_at": unit.clock.now(),
    }
