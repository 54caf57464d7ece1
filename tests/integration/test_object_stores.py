"""Objects in a folder and in clouds: the same behaviour, and every trouble in our own words."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, update

from schemas.identifiers import RequestOutcome
from schemas.requests import MoveRequested
from tests.servers.clouds import Cloud
from tests.servers.process import free_ports
from twinlock.content.backends import open_backend
from twinlock.content.objects import ObjectGone, Objects, ObjectsTrouble
from twinlock.content.settings import MIB
from twinlock.custody.port import USER, Asker
from twinlock.keys.errors import DecryptionError
from twinlock.store.tables.content import files
from twinlock.store.tables.work import jobs
from twinlock.store.unit import Cause

if TYPE_CHECKING:
    from tests.integration.conftest import Pump, World

pytestmark = pytest.mark.servers

CAUSE = Cause("test")
PART = 5 * MIB


@pytest.fixture(params=["folder", "s3", "azure"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return (tmp_path / "apart").as_uri()
    cloud: Cloud = request.getfixturevalue(request.param)
    return cloud.url()


@pytest.fixture
def stored(world: "World", url: str) -> "World":
    """Return a world whose objects lie there."""
    world.objects = Objects(open_backend(url), world.store, world.settings)
    return world


async def _chunks(content: bytes, size: int = MIB) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def _read(objects: Objects, name: str) -> bytes:
    return b"".join([chunk async for chunk in objects.read(name)])


@pytest.mark.parametrize("size", [0, 1, PART, 2 * PART + 1])
async def test_returned(stored: "World", size: int) -> None:
    """What was written, at once or as a stream of parts, comes back; deleted, it is gone, and may be deleted again."""
    objects, content = stored.objects, bytes(range(251)) * (size // 251 + 1)
    content = content[:size]
    whole, streamed = await objects.announce("c", 2, CAUSE)
    await objects.write(whole, content)
    await objects.write(streamed, _chunks(content))
    found = [await _read(objects, name) for name in (whole, streamed)]
    for name in (whole, streamed, streamed):
        await objects.delete(name)

    assert [content, content] == found
    for name in (whole, streamed):
        with pytest.raises(ObjectGone):
            await _read(objects, name)


@pytest.mark.parametrize("failure", [FileNotFoundError(2, "gone", "a.eml"), KeyError("own"), asyncio.CancelledError()])
async def test_source_fails(stored: "World", failure: BaseException) -> None:
    """A source that fails in the middle fails the upload with its own error, and leaves nothing that can be read."""

    async def broken() -> AsyncIterator[bytes]:
        yield bytes(2 * PART)
        raise failure

    (name,) = await stored.objects.announce("c", 1, CAUSE)
    with pytest.raises(type(failure)):
        await stored.objects.write(name, broken())

    with pytest.raises(ObjectGone):
        await _read(stored.objects, name)


async def test_mailbox(stored: "World", pump: "Pump") -> None:
    """A mailbox with items on both sides of the bounds is moved and read as it was."""
    bodies = [b"small", bytes(4096), bytes(range(256)) * 8 * 1024]
    await stored.mailbox("ann@acme.example", *bodies)
    before = await stored.content("ann@acme.example")
    beside = pump.another(Random(0))  # noqa: S311  # any order will do
    outcome = await beside.ask(MoveRequested(mailbox="ann@acme.example"))

    assert RequestOutcome.DONE == outcome[0]
    assert sorted(bodies) == sorted(before.values())
    assert before == await stored.content("ann@acme.example")


async def test_site(stored: "World") -> None:
    """Files on both sides of every bound come back, whole and in ranges; one that was cut gives nothing out."""
    site, sizes = await stored.site("hq"), (0, 1, 300_000, PART, 2 * PART + 1)
    for size in sizes:
        await stored.put_file(site, str(size).encode(), bytes(range(250)) * (size // 250) + bytes(size % 250))
    found = await stored.tree(site)
    reading, asker = stored.files, Asker(USER, CAUSE)

    assert list(sizes) == sorted(map(len, found.values()))
    for path, body in found.items():
        for start in {0, 65_479, len(body) - 5, len(body) // 2} & set(range(len(body))):
            chunks = [chunk async for chunk in reading.range(site, path, start, start + 9, asker)]

            assert body[start : start + 9] == b"".join(chunks)
    async with stored.store.begin(CAUSE) as unit:
        await unit.execute(update(files).where(files.c.size == PART).values(size=PART + 1))
    for reads in (stored.file(site, str(PART).encode()), _first(stored, site, str(PART).encode())):
        with pytest.raises(DecryptionError):
            await reads


async def _first(world: "World", site: str, path: bytes) -> bytes:
    return b"".join([chunk async for chunk in world.files.range(site, path, 0, 1, Asker(USER, CAUSE))])


async def _troubles(world: "World", url: str) -> list[str]:
    objects, found = Objects(open_backend(url), world.store, world.settings), []
    (name,) = await objects.announce("c", 1, CAUSE)
    for asked in (objects.write(name, b"x"), _read(objects, name), objects.delete(name)):
        try:
            await asked
        except ObjectsTrouble as trouble:
            found.append(trouble.detail)
    return found


async def test_nobody_there(world: "World", s3: Cloud, azure: Cloud) -> None:
    """A store that does not answer is trouble that passes, whatever is asked."""
    (port,) = free_ports(1)
    nowhere = f"http://127.0.0.1:{port}"
    for url in (s3.url(endpoint=nowhere), azure.url(endpoint=nowhere)):
        assert ["the object store can't be used now (GenericError)"] * 3 == await _troubles(world, url)


async def test_step_is_put_off(world: "World", pump: "Pump", s3: Cloud) -> None:
    """Law 12: trouble of the object store puts a step off, and is no attempt."""
    world.objects = Objects(open_backend(s3.url()), world.store, world.settings)
    await world.mailbox("ann@acme.example", bytes(4096))
    (port,) = free_ports(1)
    gone = s3.url(endpoint=f"http://127.0.0.1:{port}")
    world.objects = Objects(open_backend(gone), world.store, world.settings)
    beside = pump.another(Random(0))  # noqa: S311  # any order will do
    await beside.publisher.request(MoveRequested(mailbox="ann@acme.example"))
    await beside.run()

    async with world.store.read() as reader:
        found = await reader.row(select(jobs.c.trouble, jobs.c.not_before))
    assert found is not None
    assert found.trouble.startswith("the object store can't be used now")
    assert found.not_before > world.clock.now()


async def test_no_such_bucket(world: "World", s3: Cloud, azure: Cloud) -> None:
    """A bucket that is not there is named when something is written."""
    for cloud in (s3, azure):
        objects = Objects(open_backend(cloud.url("elsewhere")), world.store, world.settings)
        (name,) = await objects.announce("c", 1, CAUSE)
        with pytest.raises(ObjectsTrouble, match="there is no such bucket"):
            await objects.write(name, b"x")


async def test_wrong_credentials(world: "World", azure: Cloud) -> None:
    """A store that refuses our signature is trouble by name. (The S3 of the tests takes any.)"""
    written, read, deleted = await _troubles(world, azure.url(account_key="AAAA"))

    assert "the object store refuses us (PermissionDeniedError)" == written == read
    assert deleted.startswith("the object store")
