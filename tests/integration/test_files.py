"""Files of sites: put, get, range, delete, list; each a blob of its own in the object store."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, update

from twinlock.content.files import BadRange
from twinlock.content.paths import BadPath
from twinlock.custody.errors import KeyRefused
from twinlock.custody.port import USER, Asker
from twinlock.errors import AlreadyExists, NotFound
from twinlock.keys.errors import DecryptionError
from twinlock.store.tables.content import container_keys, files, object_intents, superseded_objects
from twinlock.store.unit import Cause

if TYPE_CHECKING:
    from tests.integration.conftest import World

CAUSE = Cause("test")
ASKER = Asker(USER, CAUSE)
FIRST, FULL = 65536 - 40 - 16, 65536 - 16
PIECE = 64 * FULL - 40
SIZES = [0, 1, FIRST - 1, FIRST, FIRST + 1, FIRST + FULL, FIRST + FULL + 1, PIECE, PIECE + 1, 2 * PIECE + 7]


async def _range(world: "World", path: bytes, start: int, stop: int) -> bytes:
    return b"".join([chunk async for chunk in world.files.range("acme/hq", path, start, stop, ASKER)])


@pytest.mark.parametrize("size", SIZES)
async def test_content_comes_back(world: "World", size: int) -> None:
    """A file of any size comes back byte for byte, whole and in ranges, and lies in exactly one object."""
    body = os.urandom(size)
    site = await world.site("hq", plan=body)
    rng = Random(size)  # noqa: S311  # any ranges will do
    found = [(0, size), *(sorted((rng.randrange(size + 1), rng.randrange(size + 1))) for _ in range(5))]

    assert body == await world.file(site, b"plan")
    assert 1 == len(world.object_names())
    for start, stop in found:
        if start < stop:
            assert body[start:stop] == await _range(world, b"plan", start, stop)


async def test_ranges_with_one_keyring(world: "World") -> None:
    """Ranges of one file after another are exact at every segment's edge, also once its end was checked."""
    body = os.urandom(PIECE + FULL + 5)
    site = await world.site("hq", plan=body)
    reading = world.files
    for edge in (0, FIRST, FIRST + FULL, PIECE, PIECE + FULL, len(body)):
        for start, stop in ((edge - 1, edge + 1), (edge, edge + 1), (edge - 4096, edge)):
            if 0 <= start < len(body):
                chunks = [chunk async for chunk in reading.range(site, b"plan", start, stop, ASKER)]

                assert body[start:stop] == b"".join(chunks)


@pytest.mark.parametrize(("start", "stop"), [(3, 4), (2, 2), (2, 1), (-1, 2)])
async def test_bad_range(world: "World", start: int, stop: int) -> None:
    """A range without bytes is refused and the size named."""
    await world.site("hq", plan=b"abc")
    with pytest.raises(BadRange) as refused:
        await _range(world, b"plan", start, stop)

    assert "it has 3 bytes" == refused.value.hint


async def test_replaced(world: "World") -> None:
    """A replaced file is a new version under a new blob key in a new object; the old object is superseded."""
    site = await world.site("hq", plan=b"first")
    async with world.store.read() as reader:
        before = await reader.row(select(files))
    await world.put_file(site, b"plan", b"second")
    async with world.store.read() as reader:
        (after,) = await reader.rows(select(files))
        superseded = {row.name for row in await reader.rows(select(superseded_objects))}
        assert 1 == await reader.scalar(select(container_keys.c.item_count))
        assert 2 == await reader.scalar(select(container_keys.c.encrypted_count))
        assert [] == await reader.rows(select(object_intents))
    assert before is not None

    assert b"second" == await world.file(site, b"plan")
    assert (before.id, 2) == (after.id, after.version)
    assert {before.object_name} == superseded
    assert not {before.wrapped_key, before.content_mac, before.object_name} & set(after)


async def test_source_fails(world: "World") -> None:
    """A stream that fails in the middle leaves what was there as it was."""
    site = await world.site("hq", plan=b"first")

    async def broken() -> AsyncIterator[bytes]:
        yield bytes(9 << 20)
        raise KeyError("own")

    with pytest.raises(KeyError):
        await world.files.put(site, b"plan", broken(), ASKER)

    assert {b"plan": b"first"} == await world.tree(site)


@pytest.mark.parametrize(
    "path",
    [
        "é".encode(),
        "e\N{COMBINING ACUTE ACCENT}".encode(),
        b"\xff\xfe",
        b"a b/c\n",
        b"...",
        b"a./b.",
        b"-rf",
        b"x" * 2000,
    ],
)
async def test_odd_names(world: "World", path: bytes) -> None:
    """A path is its bytes, whatever they are, and nothing is normalised."""
    site = await world.site("hq")
    await world.put_file(site, path, b"body")

    assert {path: b"body"} == await world.tree(site)


@pytest.mark.parametrize(
    "path", [b"", b"/", b"/etc/passwd", b"..", b"a/../b", b"./a", b"a//b", b"a/", b"a\0b", b"x" * 2001]
)
async def test_refused_paths(world: "World", path: bytes) -> None:
    """A path that could lead anywhere else, or that names a folder, is refused before anything is stored."""
    site = await world.site("hq")
    with pytest.raises(BadPath):
        await world.put_file(site, path, b"body")

    assert set() == world.object_names()


@pytest.mark.parametrize(("there", "put"), [(b"a", b"a/b"), (b"a/b", b"a"), (b"a/b/c", b"a/b"), (b"a", b"a/b/c")])
async def test_file_and_folder(world: "World", there: bytes, put: bytes) -> None:
    """A file where a folder is, or below a file, is refused: no disk could hold both."""
    site = await world.site("hq")
    for path in (there, b"a.txt", b"a0", b"a-b"):
        await world.put_file(site, path, b"x")
    with pytest.raises(AlreadyExists):
        await world.put_file(site, put, b"y")

    assert {there, b"a.txt", b"a0", b"a-b"} == set(await world.tree(site))


async def test_delete(world: "World") -> None:
    """Deleted files are gone, their objects superseded and the counts exact; an unknown path deletes nothing at all."""
    site = await world.site("hq", a=b"1", b=b"2", c=b"3")
    with pytest.raises(NotFound, match="has no file nothing"):
        await world.files.delete(site, [b"a", b"nothing"], CAUSE)

    assert 2 == await world.files.delete(site, [b"a", b"c"], CAUSE)
    assert {b"b": b"2"} == await world.tree(site)
    with pytest.raises(NotFound):
        await world.file(site, b"a")
    async with world.store.read() as reader:
        assert 1 == await reader.scalar(select(container_keys.c.item_count))
        assert 2 == len(await reader.rows(select(superseded_objects)))


async def test_list_pages(world: "World", monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing longer than a page is complete and in the order of paths."""
    monkeypatch.setattr("twinlock.content.files._PAGE", 2)
    site = await world.site("hq", e=b"", d=b"", c=b"", b=b"", a=b"")

    assert [b"a", b"b", b"c", b"d", b"e"] == [file.path async for file in world.files.list(site)]


async def test_refused_reads_give_nothing(world: "World") -> None:
    """law 7: the custodian is asked before any content is read, and a refusal gives out no byte."""
    site = await world.site("hq", plan=b"secret")
    world.custodian.refusing.add("sites-policy")

    with pytest.raises(KeyRefused):
        await world.file(site, b"plan")


async def test_long_stream_asks_again(world: "World") -> None:
    """A long stream asks the custodian again every 60 s, and ends where the key was taken away meanwhile."""
    site = await world.site("hq", plan=os.urandom(9 << 20))
    chunks = world.files.get(site, b"plan", ASKER)
    await anext(chunks)
    world.custodian.refusing.add("sites-policy")
    world.clock.advance(61)

    with pytest.raises(KeyRefused):
        async for _ in chunks:
            pass
    await chunks.aclose()


def _flip(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "first bit": lambda path: _flip(path, 0),
    "salt": lambda path: _flip(path, 5),
    "last bit": lambda path: _flip(path, -1),
    "cut": lambda path: os.truncate(path, path.stat().st_size - 1),
    "cut at a segment": lambda path: os.truncate(path, 65536),
    "header alone": lambda path: os.truncate(path, 40),
    "empty": lambda path: os.truncate(path, 0),
    "extended": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "twice": lambda path: path.write_bytes(path.read_bytes() * 2),
    "reordered": lambda path: path.write_bytes(
        path.read_bytes()[:65536] + path.read_bytes()[131072:196608] + path.read_bytes()[65536:131072]
    ),
}


@pytest.mark.parametrize("size", [3 * 65536, PIECE + 9])
@pytest.mark.parametrize("damage", DAMAGE)
async def test_law_2_damaged_blobs(world: "World", damage: str, size: int) -> None:
    """Law 2: a blob that was flipped, cut, extended or reordered ends in the one error, whole and in any range."""
    body = os.urandom(size)
    site = await world.site("hq", plan=body)
    (name,) = world.object_names()
    DAMAGE[damage](world.folder / name)

    with pytest.raises(DecryptionError):
        await world.file(site, b"plan")
    if damage != "reordered" or size < PIECE:  # segments that were not asked for may be anything
        with pytest.raises(DecryptionError):
            await _range(world, b"plan", 70_000, 70_001)


@pytest.mark.parametrize("columns", [["object_name"], ["wrapped_key"], ["object_name", "wrapped_key", "content_mac"]])
async def test_law_2_moved_blobs(world: "World", columns: list[str]) -> None:
    """Law 2: a blob, its wrapped key, or both moved to another file or site fail with the one error."""
    first = await world.site("hq", a=b"11", b=b"22")
    second = await world.site("lab", a=b"33")
    async with world.store.begin(CAUSE) as unit:
        rows = await unit.rows(select(files))
        stolen = next(row for row in rows if row.path == b"a" and row.size == 2)._mapping
        for row in rows:
            if row.id != stolen["id"]:
                values = {name: stolen[name] for name in columns}
                await unit.execute(update(files).where(files.c.id == row.id).values(values))

    others = {(first, b"a"), (first, b"b"), (second, b"a")}
    refused = 0
    for site, path in others:
        try:
            await world.file(site, path)
        except DecryptionError:
            refused += 1
    assert 2 == refused
