"""Files of sites: put, get, range, delete, list; each a blob of its own in the object store."""

import os
from collections.abc import AsyncIterator, Callable
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select, update

from twinlock.content.blobs import StoredFile
from twinlock.content.files import BadRange
from twinlock.content.paths import BadPath
from twinlock.content.sites import NewSite
from twinlock.custody.errors import KeyRefused
from twinlock.custody.port import USER, Asker
from twinlock.errors import AlreadyExists, NotFound
from twinlock.keys.errors import DecryptionError
from twinlock.store.tables.content import container_keys, containers, files, object_intents, superseded_objects
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


async def test_content_comes_back(world: "World") -> None:
    """A file of any size comes back byte for byte, whole and in ranges, and lies in exactly one object."""
    site, rng = await world.site("hq"), Random(0)  # noqa: S311  # any ranges will do
    for count, size in enumerate(SIZES, 1):
        body, path = os.urandom(size), str(size).encode()
        await world.put_file(site, path, body)

        assert body == await world.file(site, path)
        assert count == len(world.object_names())
        for start, stop in [(0, size), *(sorted((rng.randrange(size + 1), rng.randrange(size + 1))) for _ in range(3))]:
            if start < stop:
                assert body[start:stop] == await _range(world, path, start, stop)


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


async def test_bad_range(world: "World") -> None:
    """A range without bytes is refused and the size named."""
    await world.site("hq", plan=b"abc")
    for start, stop in ((3, 4), (2, 2), (2, 1), (-1, 2)):
        with pytest.raises(BadRange) as refused:
            await _range(world, b"plan", start, stop)

        assert "it has 3 bytes" == refused.value.hint


async def test_range_of_a_shorter_file(world: "World", monkeypatch: pytest.MonkeyPatch) -> None:
    """A range that the file lost while it was asked for is refused, too: nothing is not what lies there."""
    site = await world.site("hq", plan=b"0123456789")
    reading, old = world.files, world.object_names()
    find = reading._find

    async def replaced_meanwhile(*args: Any) -> Any:
        found = await find(*args)
        await world.put_file(site, b"plan", b"01234")
        for name in old:
            (world.folder / name).unlink()
        return found

    monkeypatch.setattr(reading, "_find", replaced_meanwhile)
    with pytest.raises(BadRange, match="plan has no bytes 5 to 7") as refused:
        pytest.fail(str([chunk async for chunk in reading.range(site, b"plan", 5, 8, ASKER)]))

    assert "it has 5 bytes" == refused.value.hint


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


async def test_odd_names(world: "World") -> None:
    """A path is its bytes, whatever they are, and nothing is normalised."""
    site = await world.site("hq")
    letters = ["é".encode(), "e\N{COMBINING ACUTE ACCENT}".encode()]
    paths = [*letters, b"\xff\xfe", b"a b/c\n", b"...", b"a./b.", b"-rf", b"x" * 2000]
    for number, path in enumerate(paths):
        await world.put_file(site, path, bytes([number]))

    assert {path: bytes([number]) for number, path in enumerate(paths)} == await world.tree(site)


async def test_refused_paths(world: "World") -> None:
    """A path that could lead anywhere else, or that names a folder, is refused before anything is stored."""
    site = await world.site("hq")
    absolute, dots, folders = (b"/", b"/etc/passwd"), (b"..", b"a/../b", b"./a"), (b"", b"a//b", b"a/")
    for path in (*absolute, *dots, *folders, b"a\0b", b"x" * 2001):
        with pytest.raises(BadPath):
            await world.put_file(site, path, b"body")

    assert set() == world.object_names()


async def test_file_and_folder(world: "World") -> None:
    """A file where a folder is, or below a file, is refused: no disk could hold both."""
    site = await world.site("hq")
    there = {b"a", b"a.txt", b"a0", b"a-b", b"b/c/d"}
    for path in there:
        await world.put_file(site, path, b"x")
    for path in (b"a/b", b"a/b/c", b"b", b"b/c", b"b/c/d/e"):
        with pytest.raises(AlreadyExists):
            await world.put_file(site, path, b"y")

    assert there == set(await world.tree(site))


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


async def test_law_8_stream_with_a_key_at_hand(world: "World") -> None:
    """Law 8: a stream that begins with a key that is 59 s old asks again a second later, not after a minute."""
    site, reading = await world.site("hq", plan=os.urandom(9 << 20), small=b"1"), world.files
    assert [b"1"] == [chunk async for chunk in reading.get(site, b"small", ASKER)]
    world.clock.advance(59)
    chunks = reading.get(site, b"plan", ASKER)
    await anext(chunks)
    world.custodian.refusing.add("sites-policy")
    world.clock.advance(1)

    with pytest.raises(KeyRefused):
        await anext(chunks)


def _flip(content: bytes, offset: int) -> bytes:
    flipped = bytearray(content)
    flipped[offset] ^= 1
    return bytes(flipped)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "first bit": lambda blob: _flip(blob, 0),
    "salt": lambda blob: _flip(blob, 5),
    "last bit": lambda blob: _flip(blob, -1),
    "cut": lambda blob: blob[:-1],
    "cut at a segment": lambda blob: blob[:65536],
    "header alone": lambda blob: blob[:40],
    "empty": lambda blob: b"",
    "extended": lambda blob: blob + b"\0",
    "twice": lambda blob: blob * 2,
    "reordered": lambda blob: blob[:65536] + blob[131072:196608] + blob[65536:131072] + blob[196608:],
}


@pytest.mark.parametrize("size", [3 * 65536, PIECE + 9])
async def test_law_2_damaged_blobs(world: "World", size: int) -> None:
    """Law 2: a blob that was flipped, cut, extended or reordered ends in the one error, whole and in any range."""
    site = await world.site("hq", plan=os.urandom(size))
    (name,) = world.object_names()
    genuine = (world.folder / name).read_bytes()
    for damage, spoil in DAMAGE.items():
        (world.folder / name).write_bytes(spoil(genuine))

        for reading in (world.file(site, b"plan"), _range(world, b"plan", 70_000, 70_001)):
            with pytest.raises(DecryptionError):
                pytest.fail(f"{damage}: {len(await reading)} bytes were given out")
    (world.folder / name).write_bytes(genuine)

    assert size == len(await world.file(site, b"plan"))


@pytest.mark.parametrize("short", [True, False])
async def test_law_2_cut_after_its_end_was_checked(
    world: "World", monkeypatch: pytest.MonkeyPatch, *, short: bool
) -> None:
    """Law 2: a blob that is cut at a segment after its end was checked ends in the one error, whatever the store does.

    A store answers a range that lies partly behind the end with a failure, or with fewer bytes.
    """
    size = PIECE + 3 * FULL
    site, reading = await world.site("hq", plan=os.urandom(size)), world.files
    assert size == sum([len(chunk) async for chunk in reading.get(site, b"plan", ASKER)])
    (name,) = world.object_names()
    cut = (world.folder / name).read_bytes()[: 66 * 65536]
    (world.folder / name).write_bytes(cut)

    async def parts(name: str, parts: list[tuple[int, int]]) -> AsyncIterator[bytes]:
        for start, stop in parts:
            yield cut[start:stop]

    if short:
        monkeypatch.setattr(world.objects, "parts", parts)
    with pytest.raises(DecryptionError):
        pytest.fail(f"{sum([len(chunk) async for chunk in reading.get(site, b'plan', ASKER)])} bytes were given out")


@pytest.fixture
async def sites(world: "World") -> list[str]:
    """Return a site with two files, another one of its tenant with one, and one of another tenant."""
    first, second = await world.site("hq", a=b"11", b=b"22"), await world.site("lab", a=b"33")
    await world.sites.add(NewSite("hq", "provider", "EUR"), ASKER)
    await world.put_file("provider/hq", b"a", b"44")
    return [first, second, "provider/hq"]


async def test_law_2_moved_blobs(world: "World", sites: list[str]) -> None:
    """Law 2: a blob, its wrapped key, or both moved to another file, site or tenant fail with the one error."""
    stolen = await _row_of(world, sites[0], b"a")
    for moved in (["object_name"], ["wrapped_key"], ["object_name", "wrapped_key", "content_mac"]):
        for site, path in zip(sites, (b"b", b"a", b"a"), strict=True):
            own = await _row_of(world, site, path)
            await _set(world, own.id, {name: getattr(stolen, name) for name in moved})

            with pytest.raises(DecryptionError):
                await world.file(site, path)
            await _set(world, own.id, {name: getattr(own, name) for name in moved})
            assert 2 == len(await world.file(site, path))


async def test_law_2_moved_objects(world: "World", sites: list[str]) -> None:
    """Law 2: an object that takes the place of another file's, site's or tenant's fails with the one error."""
    stolen = await _row_of(world, sites[0], b"a")
    for site, path in zip(sites, (b"b", b"a", b"a"), strict=True):
        own = await _row_of(world, site, path)
        (world.folder / str(own.object_name)).write_bytes((world.folder / str(stolen.object_name)).read_bytes())

        with pytest.raises(DecryptionError):
            await world.file(site, path)


async def test_law_2_moved_site_keys(world: "World", sites: list[str]) -> None:
    """Law 2: a wrapped site key moved to another site or tenant fails with the one error, even beside its blob."""
    stolen = await _row_of(world, sites[0], b"a")
    key = container_keys.c
    async with world.store.begin(CAUSE) as unit:
        query = select(key.wrapped, key.commitment).join_from(container_keys, containers)
        row = await unit.row(query.where(containers.c.name == sites[0]))
        assert row is not None
        await unit.execute(update(container_keys).values(wrapped=row.wrapped, commitment=row.commitment))
    for site in sites[1:]:
        with pytest.raises(DecryptionError):
            await world.file(site, b"a")
        own = await _row_of(world, site, b"a")
        await _set(
            world, own.id, {name: getattr(stolen, name) for name in ("object_name", "wrapped_key", "content_mac")}
        )

        with pytest.raises(DecryptionError):
            await world.file(site, b"a")

    assert b"11" == await world.file(sites[0], b"a")


async def _row_of(world: "World", site: str, path: bytes) -> StoredFile:
    return next(file for file in [file async for file in world.files.list(site)] if file.path == path)


async def _set(world: "World", file_id: str, values: dict[str, Any]) -> None:
    async with world.store.begin(CAUSE) as unit:
        await unit.execute(update(files).where(files.c.id == file_id).values(values))
