"""Sites: add, list and remove; folders in and out; keys that change while files come, go and are read."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import delete, insert, select, update

from schemas.identifiers import AvailabilityMode
from tests.integration.conftest import EUROPE, SITES, stream
from twinlock.content import containers, generations
from twinlock.content.containers import Ambiguous
from twinlock.content.deleting import delete_files
from twinlock.content.filing import FileDraft
from twinlock.content.generations import Switch
from twinlock.content.site_export import SiteExport, SiteExporter
from twinlock.content.site_import import SiteImporter, SiteReport
from twinlock.content.sites import NewSite
from twinlock.content.sources import TargetRefused
from twinlock.content.tree import Entry, NotFolder, walk
from twinlock.crashpoints import CrashPoint, arm, disarm
from twinlock.custody.errors import KeyRefused
from twinlock.custody.port import USER, Asker, ContainerRef, PolicyKeyOrder
from twinlock.errors import AlreadyExists, NotFound, TwinlockError
from twinlock.store.tables.content import container_keys, files, object_intents
from twinlock.store.tables.custody import policies, policy_keys
from twinlock.store.tables.work import geos
from twinlock.store.unit import Cause, StaleRead

if TYPE_CHECKING:
    from tests.integration.conftest import World

CAUSE = Cause("test")
ASKER = Asker(USER, CAUSE)
MODE = AvailabilityMode.RECOVERY_ONLY
ODD = [b"\xff\xfe", "é".encode(), "e\N{COMBINING ACUTE ACCENT}".encode(), b"a b\n", b"dots..", b"-rf", b"x" * 255]


class Crash(BaseException):
    """Stand for the death of the process."""


async def bring_in(world: "World", site: str, folder: Path) -> SiteReport:
    importer = SiteImporter(world.store, world.filer, world.site_keyring)
    return await importer.run(site, folder, ASKER, lambda report: None)


async def bring_out(world: "World", site: str, folder: Path) -> SiteExport:
    return await SiteExporter(world.store, world.files).run(site, folder, ASKER, lambda report: None)


async def new_key(world: "World", site: str, policy: str = SITES) -> None:
    """Start a new site key generation, as the worker does."""
    async with world.store.read() as reader:
        seen = await containers.find_site(reader, site)
    ref = ContainerRef(seen.tenant_id, seen.id, seen.newest.number + 1)
    (made,) = await world.custodian.make_container_keys([ref], policy, ASKER)
    refs = [seen.ref(number) for number in sorted(seen.live)]
    rewrapped = await world.custodian.rewrap_containers(refs, policy, ASKER) if policy != seen.policy_id else []
    async with world.store.begin(CAUSE) as unit:
        await generations.switch_all(unit, [Switch(seen, made, tuple(rewrapped))])


async def live(world: "World", site: str) -> list[int]:
    async with world.store.read() as reader:
        return sorted((await containers.find_site(reader, site)).live)


async def move(world: "World", site: str) -> tuple[list[int], tuple[str, ...]]:
    """Re-encrypt a whole site, step by step; return how many files each step moved, and what is damaged."""
    async with world.store.read() as reader:
        site_id = (await containers.find_site(reader, site)).id
    cursor = ""
    moved: list[int] = []
    damaged: list[str] = []
    while True:
        step = await world.blob_reencrypter.plan(site_id, cursor, ASKER)
        if step is None or step.cursor is None:
            return moved, tuple(damaged)
        async with world.store.begin(CAUSE) as unit:
            applied = await world.blob_reencrypter.apply(unit, step)
        moved.append(applied.items)
        damaged += applied.damaged
        cursor = step.cursor


def tree(folder: Path) -> dict[bytes, bytes]:
    """Return every file and every empty folder below."""
    found: dict[bytes, bytes] = {}
    for path in folder.rglob("*"):
        inside = os.fsencode(path.relative_to(folder))
        if path.is_file():
            found[inside] = path.read_bytes()
        elif not any(path.iterdir()):
            found[inside + b"/"] = b""
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with files, empty folders and odd names."""
    root = tmp_path / "library"
    for place in ("empty/inside", "reports/2026", "odd"):
        (root / place).mkdir(parents=True)
    (root / "reports" / "big").write_bytes(os.urandom(9 << 20))
    (root / "reports" / "2026" / "none").touch()
    (root / "readme").write_bytes(b"hello")
    for number, name in enumerate(ODD):
        Path(os.fsdecode(os.path.join(os.fsencode(root / "odd"), name))).write_bytes(bytes([number]))  # noqa: PTH118
    return root


async def test_policy_of_the_geo(world: "World") -> None:
    """A new site starts under the policy of its geo, and under the provider's own where the geo has none."""
    async with world.store.begin(CAUSE) as unit:
        row = {"state": "registered", "since": world.clock.now(), "version": 1}
        await unit.execute(insert(geos).values(tenant_id="acme", geo="EUR", policy_id=EUROPE, **row))
    for name, geo in (("hq", "EUR"), ("lab", "NAM")):
        await world.sites.add(NewSite(name, "acme", geo), ASKER)
    with pytest.raises(AlreadyExists, match="the site acme/hq exists"):
        await world.sites.add(NewSite("hq", "acme", "NAM"), ASKER)

    listed = [(site.name, site.policy) async for site in world.sites.list()]
    assert [("acme/hq", EUROPE), ("acme/lab", None)] == listed
    assert ["acme/lab"] == [site.name async for site in world.sites.list("acme", "NAM")]


async def test_law_3_policy_rolled_while_a_site_is_added(world: "World", monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 3: a site whose key was made under a TIK that is gone by now gets another one, under the newest."""
    make = world.custodian.make_container_keys

    async def rolling(*args: Any) -> Any:
        made = await make(*args)
        if made[0].policy_key_generation == 1:
            await _roll(world, SITES)
        return made

    monkeypatch.setattr(world.custodian, "make_container_keys", rolling)
    await world.sites.add(NewSite("hq", "acme", "EUR"), ASKER)
    await world.put_file("acme/hq", b"plan", b"body")

    assert 2 == (await world.sites.show("hq")).policy_version
    assert b"body" == await world.file("acme/hq", b"plan")


async def _roll(world: "World", policy: str) -> None:
    """Roll a policy that nothing is under, as a refresh and its rollout do."""
    await world.custodian.make_policy_key(PolicyKeyOrder("provider", policy, 2, MODE, ("a", "b")), ASKER)
    async with world.store.begin(CAUSE) as unit:
        row = {"policy_id": policy, "generation": 2, "commitment": bytes(32), "created_at": world.clock.now()}
        await unit.execute(insert(policy_keys).values(row))
        await unit.execute(update(policies).where(policies.c.id == policy).values(newest_generation=2))
        await unit.execute(delete(policy_keys).where(policy_keys.c.policy_id == policy, policy_keys.c.generation == 1))


async def test_names(world: "World") -> None:
    """A site is found by its full name, and by its bare name where only one has it; else all that have it are named."""
    await world.site("hq", a=b"1")
    await world.sites.add(NewSite("hq", "provider", "EUR"), ASKER)
    await world.site("lab", a=b"2")

    assert "acme/lab" == (await world.sites.show("lab")).name
    assert b"2" == await world.file("lab", b"a")
    with pytest.raises(Ambiguous, match="acme/hq, provider/hq"):
        await world.sites.show("hq")
    with pytest.raises(NotFound, match="there is no site q"):
        await world.sites.show("q")


async def test_remove(world: "World") -> None:
    """A removed site leaves no row, and its objects to the sweeper."""
    site = await world.site("hq", a=b"1", b=b"2")
    status = await world.sites.show(site)

    assert (2, 2, 2) == (status.files, status.bytes, status.files_encrypted)
    assert 2 == await world.sites.remove(site, CAUSE)
    world.clock.advance(world.settings.objects_keep + 1)
    assert 2 == await world.sweeper.sweep(CAUSE)
    assert set() == world.object_names()


async def test_remove_in_parts(world: "World", monkeypatch: pytest.MonkeyPatch) -> None:
    """A large site goes in bounded transactions, folders too; one that was cut off is finished by another removal."""
    site = await world.site("hq", **{str(number): b"x" for number in range(world.settings.batch_items + 3)})
    async with world.store.read() as reader:
        seen = await containers.find_site(reader, site)
    await world.filer.put(seen.id, [FileDraft(b"empty/", None)], ASKER)
    deleted = list[int]()

    async def counting(*args: Any) -> Any:
        if len(deleted) == 1:
            raise ConnectionError("cut off")
        gone = await delete_files(*args)
        deleted.append(len(gone))
        return gone

    with monkeypatch.context() as patched:
        patched.setattr("twinlock.content.sites.delete_files", counting)
        with pytest.raises(ConnectionError):
            await world.sites.remove(site, CAUSE)

    assert [world.settings.batch_items] == deleted
    left = [file async for file in world.files.list(site)]
    assert 4 == len(left)
    assert sum(file.object_name is not None for file in left) == (await world.sites.show(site)).files
    assert (await world.sites.show(site)).files == await world.sites.remove(site, CAUSE)
    with pytest.raises(NotFound):
        await world.sites.show(site)


async def test_law_3_removed_while_files_come(world: "World") -> None:
    """Law 3: a file that comes between two parts of a removal goes with the rest; a later one finds no site."""
    site = await world.site("hq", **{str(number): b"x" for number in range(3 * world.settings.batch_items)})

    async def put(number: int) -> str:
        try:
            return await world.put_file(site, f"new{number}".encode(), b"y")
        except NotFound:
            return "gone"

    async with asyncio.TaskGroup() as group:
        putting = [group.create_task(put(number)) for number in range(4)]
        removing = group.create_task(world.sites.remove(site, CAUSE))

    assert 3 * world.settings.batch_items <= removing.result() <= 3 * world.settings.batch_items + 4
    assert all(task.result() for task in putting)
    async with world.store.read() as reader:
        assert [] == await reader.rows(select(files))


async def test_folder_in_and_out(world: "World", folder: Path, tmp_path: Path) -> None:
    """A folder comes out byte for byte, with its odd names and empty folders; a second import adds nothing."""
    site, before = await world.site("hq"), tree(folder)
    report = await bring_in(world, site, folder)
    objects = world.object_names()
    again = await bring_in(world, site, folder)
    export = await bring_out(world, site, tmp_path / "out")

    assert 3 + len(ODD) == report.files == again.unchanged == export.files
    assert (0, 0, 0) == (again.files, again.bytes, again.failed.count)
    assert objects == world.object_names()
    assert before == tree(tmp_path / "out") == await world.tree(site)


async def test_changed_folder(world: "World", folder: Path) -> None:
    """An import replaces what changed, also where the size is the same, adds what is new, and deletes nothing."""
    site = await world.site("hq")
    await bring_in(world, site, folder)
    (folder / "readme").write_bytes(b"HELLO")
    (folder / "new").write_bytes(b"new")
    (folder / "reports" / "2026" / "none").unlink()
    report = await bring_in(world, site, folder)
    found = await world.tree(site)

    assert (2, 8) == (report.files, report.bytes)
    assert (b"HELLO", b"new", b"") == (found[b"readme"], found[b"new"], found[b"reports/2026/none"])


async def test_left_out(world: "World", folder: Path) -> None:
    """Links and pipes are left out and named; what can't be a folder is refused before anything is changed."""
    site = await world.site("hq")
    (folder / "link").symlink_to("readme")
    (folder / "outside").symlink_to("/etc")
    os.mkfifo(folder / "pipe")
    report = await bring_in(world, site, folder)
    kinds = {("link", "a symbolic link"), ("outside", "a symbolic link"), ("pipe", "a pipe")}

    assert kinds == set(report.skipped.named)
    assert not {b"link", b"outside", b"pipe"} & set(await world.tree(site))
    for path in (folder / "readme", folder / "nowhere"):
        with pytest.raises(NotFolder):
            await bring_in(world, site, path)


def test_folder_becomes_a_link(tmp_path: Path) -> None:
    """A folder that becomes a link while its tree is walked, or one above it, leads nowhere, and is named."""
    for above in ("deep", "deep/er"):
        root, outside = tmp_path / above.replace("/", "-"), tmp_path / f"outside of {above[-2:]}"
        (root / "deep" / "er").mkdir(parents=True)
        (root / "first").touch()
        (root / "deep" / "second").touch()
        (outside / "er").mkdir(parents=True)
        (outside / "secret").touch()
        (outside / "er" / "secret").touch()
        found = walk(root)
        seen = [next(found), *([next(found)] if above == "deep/er" else [])]
        (root / above).rename(tmp_path / f"away {above[-2:]}")
        (root / above).symlink_to(outside, target_is_directory=True)
        left = list(found)

        assert [False] * len(seen) == [entry.is_fault for entry in seen]
        assert [(f"{above}/".encode(), True)] == [(entry.path, entry.is_fault) for entry in left]


async def test_changing_file(world: "World", folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that changes while it is read is named and not imported; the others are."""
    read = Entry._read

    def writing(entry: Entry) -> Iterator[bytes]:
        for chunk in read(entry):
            yield chunk
            if entry.path == b"reports/big":
                with (folder / "reports" / "big").open("ab") as file:
                    file.write(b"x")

    site = await world.site("hq")
    monkeypatch.setattr(Entry, "_read", writing)
    report = await bring_in(world, site, folder)

    assert ["reports/big"] == [path for path, _ in report.failed.named]
    assert "changed while it was read" in report.failed.named[0][1]
    assert tree(folder).keys() - {b"reports/big"} == (await world.tree(site)).keys()


async def test_vanished_and_too_long(world: "World", folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that vanishes, one that becomes a link, and a path that is too long are named; the others are imported."""
    deep = folder / "/".join(["y" * 250] * 8)
    deep.mkdir(parents=True)
    (deep / "file").touch()
    read = Entry._read

    def vanishing(entry: Entry) -> Iterator[bytes]:
        if entry.path == b"readme":
            (folder / "readme").unlink()
        if entry.path == b"odd/-rf":
            (folder / "odd" / "-rf").unlink()
            (folder / "odd" / "-rf").symlink_to("/etc/hostname")
        return read(entry)

    monkeypatch.setattr(Entry, "_read", vanishing)
    site = await world.site("hq")
    report = await bring_in(world, site, folder)

    assert 3 == report.failed.count
    assert {"readme", "odd/-rf"} < {path for path, _ in report.failed.named}
    assert 1 + len(ODD) == report.files


async def test_export_stays_inside(world: "World", tmp_path: Path) -> None:
    """An export writes below its folder alone, whatever the database says, and through no link that is put there."""
    site = await world.site("hq", a=b"1", b=b"2", c=b"3", d=b"4")
    paths = {b"a": b"../escaped", b"b": str(tmp_path / "escaped").encode(), b"c": b"linked/escaped"}
    async with world.store.begin(CAUSE) as unit:
        for old, new in paths.items():
            await unit.execute(update(files).where(files.c.path == old).values(path=new))
    exporter = SiteExporter(world.store, world.files)
    out, outside = tmp_path / "out", tmp_path / "outside"
    outside.mkdir()

    def plant(report: SiteExport) -> None:
        if not (out / "linked").is_symlink():
            (out / "linked").symlink_to(outside)

    report = await exporter.run(site, out, ASKER, plant)

    assert 3 == report.failed.count
    assert {b"d": b"4"} == {path: body for path, body in tree(out).items() if b"linked" not in path}
    assert not (tmp_path / "escaped").exists()
    assert [] == list(outside.iterdir())
    with pytest.raises(TargetRefused):
        await bring_out(world, site, out)


async def test_law_3_late_writer(world: "World") -> None:
    """Law 3: a file that was encrypted under a key that is no longer the newest is encrypted again from its blob."""
    site = await world.site("hq", old=b"old")
    body = os.urandom(9 << 20)

    async def late() -> AsyncIterator[bytes]:
        async for chunk in stream(body):
            yield chunk
        await new_key(world, site)

    await world.files.put(site, b"new", late(), ASKER)
    async with world.store.read() as reader:
        rows = {row.path: row.generation for row in await reader.rows(select(files))}
        counts = [row.item_count for row in await reader.rows(select(container_keys).order_by("generation"))]

    assert {b"old": 1, b"new": 2} == rows
    assert [1, 1] == counts
    assert {b"old": b"old", b"new": body} == await world.tree(site)


async def test_law_3_move(world: "World", folder: Path) -> None:
    """Law 3: a site is moved in bounded steps to new blob keys; its old key is destroyed with the last file."""
    site = await world.site("hq")
    await bring_in(world, site, folder)
    before = tree(folder)
    async with world.store.read() as reader:
        keys = {row.wrapped_key for row in await reader.rows(select(files)) if row.wrapped_key}
    await new_key(world, site, EUROPE)
    steps, damaged = await move(world, site)
    async with world.store.read() as reader:
        rows = await reader.rows(select(files))

    assert [8, 3 + len(ODD) - 8] == steps
    assert () == damaged
    assert [2] == await live(world, site)
    assert not keys & {row.wrapped_key for row in rows}
    assert before == await world.tree(site)
    assert (EUROPE, 3 + len(ODD)) == ((status := await world.sites.show(site)).policy, status.files_encrypted)


async def test_law_3_reader_of_a_moved_file(world: "World") -> None:
    """Law 3: who listed a file before its key was destroyed and its object swept reads the row again, and the bytes."""
    site = await world.site("hq", a=b"a" * 200_000)
    async with world.store.read() as reader:
        seen = await containers.find_site(reader, site)
    (listed,) = [file async for file in world.files.list(site)]
    await new_key(world, site)
    await move(world, site)
    world.clock.advance(world.settings.objects_keep + 1)
    await world.sweeper.sweep(CAUSE)

    assert b"a" * 200_000 == b"".join([chunk async for chunk in world.files.content(seen, listed, ASKER)])


async def test_law_3_step_meets_changes(world: "World") -> None:
    """Law 3: a step switches only rows at the version it read, and none where the site's keys moved on."""
    site = await world.site("hq", a=b"1", b=b"2", c=b"3")
    await new_key(world, site)
    async with world.store.read() as reader:
        site_id = (await containers.find_site(reader, site)).id
    step = await world.blob_reencrypter.plan(site_id, "", ASKER)
    await world.files.delete(site, [b"a"], CAUSE)
    await world.put_file(site, b"b", b"two")
    assert step is not None
    async with world.store.begin(CAUSE) as unit:
        applied = await world.blob_reencrypter.apply(unit, step)

    assert (1, True) == (applied.items, applied.finished)
    assert {b"b": b"two", b"c": b"3"} == await world.tree(site)
    await new_key(world, site)
    with pytest.raises(StaleRead):
        async with world.store.begin(CAUSE) as unit:
            await world.blob_reencrypter.apply(unit, step)


async def test_law_8_long_step(world: "World", monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 8: a step that takes longer than a key's minute asks the custodian again, for a file and in the middle of it.

    Refused, it has changed nothing.
    """
    site = await world.site("hq", a=os.urandom(9 << 20), b=b"2")
    await new_key(world, site)
    tree, step = await world.tree(site), world.blob_reencrypter
    read = step._blobs.read

    async def slowly(*args: Any) -> AsyncIterator[bytes]:
        async for chunk in read(*args):
            world.clock.advance(61)
            world.custodian.refusing.add(SITES)
            yield chunk

    monkeypatch.setattr(step._blobs, "read", slowly)
    async with world.store.read() as reader:
        seen = await containers.find_site(reader, site)
    with pytest.raises(KeyRefused):
        await step.plan(seen.id, "", ASKER)
    world.custodian.refusing.clear()

    assert tree == await world.tree(site)
    assert [1, 2] == await live(world, site)


async def test_law_2_damaged_file_is_named(world: "World") -> None:
    """Law 2: a file that does not decrypt stays where it is, is named, and stops no other."""
    site = await world.site("hq", a=b"1", b=b"2", c=b"3")
    (first, *_) = [file async for file in world.files.list(site)]
    (world.folder / (first.object_name or "")).write_bytes(b"x" * 57)
    await new_key(world, site)

    assert ([2], (first.id,)) == await move(world, site)
    assert [1, 2] == await live(world, site)


@pytest.mark.parametrize(
    "point", [CrashPoint.AFTER_INTENT, CrashPoint.AFTER_OBJECT_WRITE, CrashPoint.AFTER_SWITCH, CrashPoint.BEFORE_COMMIT]
)
async def test_law_14_crash(world: "World", point: CrashPoint) -> None:
    """Law 14: a crash anywhere in a put leaves the old file as it was, and what was written to the sweeper."""
    site = await world.site("hq", a=b"old")
    before = world.object_names()

    def crash() -> None:
        raise Crash

    arm(point, crash)
    with pytest.raises(BaseException) as raised:  # noqa: PT011  # a task group may wrap it
        await world.put_file(site, b"a", b"new")
    disarm()
    assert raised.group_contains(Crash) if isinstance(raised.value, BaseExceptionGroup) else raised.type is Crash

    assert b"old" == await world.file(site, b"a")
    world.clock.advance(world.settings.intent_seconds + 1)
    await world.sweeper.sweep(CAUSE)
    async with world.store.read() as reader:
        assert [] == await reader.rows(select(object_intents))
    assert before == world.object_names()
    assert b"old" == await world.file(site, b"a")


async def test_law_14_swept_before_the_commit(world: "World", monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 14: an upload whose object was swept before the commit is refused as too long, and changes nothing."""
    site, filer = await world.site("hq", a=b"old"), world.filer
    write_all = filer._write_all

    async def slowly(*args: Any) -> None:
        await write_all(*args)
        world.clock.advance(world.settings.intent_seconds + 1)
        await world.sweeper.sweep(CAUSE)

    monkeypatch.setattr(filer, "_write_all", slowly)
    async with world.store.read() as reader:
        seen = await containers.find_site(reader, site)
    with pytest.raises(TwinlockError, match="the upload took longer than it may"):
        await filer.put(seen.id, [FileDraft(b"a", stream(b"new"))], ASKER)

    assert {b"a": b"old"} == await world.tree(site)
