"""Compare re-encrypting a mailbox with reading and rewriting the same rows and objects without cryptography or events.

Both run in turn on the same database, with the same transaction sizes, durability and objects; the ratio of medians
must not be above 2.
"""

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Row, bindparam, select, update

from bench._mailbox import Bench, bench
from twinlock.content.objects import claim_intents, supersede
from twinlock.content.sealing import read_whole
from twinlock.store.tables.content import items
from twinlock.store.unit import Cause, new_id

COUNT, ROUNDS, BOUND = 2000, 9, 2.0

_REWRITE = (
    update(items)
    .where(items.c.container_id == bindparam("at_container"), items.c.id == bindparam("at_id"))
    .values(
        generation=bindparam("to_generation"),
        version=bindparam("to_version"),
        body=bindparam("to_body"),
        object_name=bindparam("to_object"),
        import_mac=bindparam("to_mac"),
    )
)


async def rewrite(parts: Bench) -> None:
    """Read and rewrite every row and object, in batches as large as the steps are."""
    mailbox = await parts.mailbox()
    last = ""
    while True:
        async with parts.store.read() as reader:
            rows = await reader.rows(
                select(items.c.id, items.c.size, items.c.generation, items.c.version, items.c.object_name)
                .where(items.c.container_id == mailbox.id, items.c.id > last)
                .order_by(items.c.id)
                .limit(parts.settings.batch_items)
            )
            batch = bounded(rows, parts.settings.batch_bytes)
            if not batch:
                return
            inline = [row.id for row in batch if row.object_name is None]
            found = await reader.rows(
                select(items.c.id, items.c.body).where(items.c.container_id == mailbox.id, items.c.id.in_(inline))
            )
        bodies = {row.id: turned(row.body) for row in found}
        last = batch[-1].id
        await rewrite_batch(parts, mailbox.id, batch, bodies)


async def rewrite_batch(parts: Bench, container: str, batch: Sequence[Row[Any]], bodies: dict[str, bytes]) -> None:
    """Rewrite one batch in one transaction."""
    cause = Cause(new_id())
    outside = [row for row in batch if row.object_name is not None]
    names = await parts.objects.announce(container, len(outside), cause)
    moved = {}
    for row, name in zip(outside, names, strict=True):
        await parts.objects.write(name, await read_whole(parts.objects, row.object_name))
        moved[row.id] = name
    async with parts.store.begin(cause) as unit:
        values = [
            {
                "at_container": container,
                "at_id": row.id,
                "to_generation": row.generation,
                "to_version": row.version,
                "to_body": bodies.get(row.id),
                "to_object": moved.get(row.id),
                "to_mac": os.urandom(32),
            }
            for row in batch
        ]
        await unit.execute(_REWRITE, values)
        await claim_intents(unit, names)
        supersede(unit, [row.object_name for row in outside])


def turned(body: bytes) -> bytes:
    """Swap the halves of a body; done twice, it is as before.

    SQLite compares what it overwrites and writes no page that stays the same: the same bytes would not be rewritten.
    """
    half = len(body) // 2
    return body[-half:] + body[half:-half] + body[:half]


def bounded(rows: Sequence[Row[Any]], most: int) -> list[Row[Any]]:
    """Take rows up to the byte bound, at least one."""
    taken: list[Row[Any]] = []
    total = 0
    for row in rows:
        total += row.size
        if taken and total > most:
            break
        taken.append(row)
    return taken


@dataclass(frozen=True, slots=True)
class Taken:
    """Hold what a round took, in seconds of wall time and of processor time in all threads."""

    wall: float
    processor: float


async def timed(work: Awaitable[None]) -> Taken:
    """Return what it took."""
    wall, processor = time.perf_counter(), time.process_time()
    await work
    return Taken(time.perf_counter() - wall, time.process_time() - processor)


async def compare(parts: Bench) -> tuple[Taken, Taken]:
    """Take one round of each, the fleet running only while it is measured."""
    plain = await timed(rewrite(parts))
    await rewrite(parts)  # turned back: what follows decrypts the rows
    async with parts.working() as announced:
        encrypted = await timed(parts.reencrypt(announced))
    print(
        f"rewrite {plain.wall:6.3f} s (processor {plain.processor:6.3f} s)   "
        f"re-encrypt {encrypted.wall:6.3f} s (processor {encrypted.processor:6.3f} s)"
    )
    return plain, encrypted


async def main() -> int:
    """Measure in turn, print every round, and fail above the bound."""
    with tempfile.TemporaryDirectory(prefix="twinlock-bench-") as folder:
        async with bench(Path(folder)) as parts:
            await parts.fill(COUNT)
            rounds = [await compare(parts) for _ in range(ROUNDS)]
    plain, encrypted = (statistics.median(taken.wall for taken in side) for side in zip(*rounds, strict=True))
    print(f"{COUNT} mails, medians of {ROUNDS}: ratio {encrypted / plain:.2f} (at most {BOUND})")
    return int(encrypted > plain * BOUND)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
