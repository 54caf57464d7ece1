"""Delete items and files: rows and counts, their objects and the older keys that this empties, in one transaction."""

from collections.abc import Collection

from sqlalchemy import ColumnElement, delete, update

from twinlock.content import generations
from twinlock.content.blobs import COLUMNS, StoredFile
from twinlock.content.containers import Container
from twinlock.content.filing import recount
from twinlock.content.objects import supersede
from twinlock.custody.audit.log import AuditEntry, AuditLog, Scalar
from twinlock.store.tables.content import container_keys, container_wraps, containers, files, items
from twinlock.store.unit import Unit


async def delete_items(unit: Unit, locked: Container, ids: Collection[str]) -> set[str]:
    """Delete those of these items that a locked container still has, and return their ids."""
    rows = await unit.rows(
        delete(items)
        .where(items.c.container_id == locked.id, items.c.id.in_(ids))
        .returning(items.c.id, items.c.generation, items.c.object_name)
    )
    for number in locked.live:
        gone = sum(1 for row in rows if row.generation == number)
        await unit.execute(
            update(container_keys)
            .where(container_keys.c.container_id == locked.id, container_keys.c.generation == number)
            .values(item_count=container_keys.c.item_count - gone)
        )
    supersede(unit, [row.object_name for row in rows if row.object_name])
    await generations.destroy_empty(unit, locked, [older.number for older in locked.generations[:-1]])
    return {row.id for row in rows}


async def delete_files(unit: Unit, locked: Container, chosen: ColumnElement[bool]) -> list[StoredFile]:
    """Delete those files and empty folders of a locked site that a condition on their rows chooses; return them."""
    row = files.c
    rows = await unit.rows(
        delete(files).where(row.container_id == locked.id, chosen).returning(*(row[name] for name in COLUMNS))
    )
    gone = [StoredFile.of(each) for each in rows]
    await recount(unit, locked, gone, 0)
    supersede(unit, [file.object_name for file in gone if file.object_name])
    await generations.destroy_empty(unit, locked, [older.number for older in locked.generations[:-1]])
    return gone


async def remove_empty(unit: Unit, locked: Container) -> None:
    """Remove a locked container in which nothing is left; the database refuses any other."""
    await unit.execute(delete(container_wraps).where(container_wraps.c.container_id == locked.id))
    await unit.execute(delete(container_keys).where(container_keys.c.container_id == locked.id))
    await unit.execute(delete(containers).where(containers.c.id == locked.id))


async def note_removal(unit: Unit, kind: str, gone: Container, count: int, audit: AuditLog | None) -> None:
    """Write down who removed a container; `count` is how many items or files went since the removal was asked for."""
    if audit is not None:
        detail: dict[str, Scalar] = {"container": gone.id, "name": gone.name, "items": count, "sender": unit.sender}
        await audit.append(unit, AuditEntry(kind, gone.tenant_id, gone.policy_id, detail))
