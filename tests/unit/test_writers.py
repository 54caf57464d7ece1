import mailbox
import os
import re
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cli
from twinlock.content.sources import Kind, TargetFailed, TargetRefused, open_source
from twinlock.content.writers import Format, MailWriter, open_writer

SAMPLES = Path(cli.__file__).parent / "demo" / "samples"
FORMATS: tuple[Format, ...] = get_args(Format)

PIECES = [b"From ", b">From ", b"From", b"\n", b"\n\n", b"\r\n", b"\r", b"a", b"Subject: x\n", b"\0", b"\xff"]
BODIES = st.lists(st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join), max_size=6)


def export(path: Path, form: Format, bodies: list[bytes], chunk: int = 1 << 16) -> None:
    """Write items, cut into chunks."""
    with open_writer(path, form) as writer:
        for number, body in enumerate(bodies):
            with writer.item(f"id{number:04}", "eml") as item:
                for begin in range(0, len(body), chunk):
                    item.write(body[begin : begin + chunk])


def imported(path: Path) -> list[bytes]:
    """Read all items of an export."""
    return [message.read() for message in open_source(path).messages()]


def carried(body: bytes) -> bytes:
    """Say what an mbox makes of an item."""
    quoted = re.sub(rb"(\n\r?\n)From ", rb"\1>From ", b"\n" + body)[1:]
    return quoted if quoted.endswith(b"\n") or not quoted else quoted + b"\n"


def modes(path: Path) -> set[int]:
    """Collect the modes of all files."""
    return {stat.S_IMODE(found.stat().st_mode) for found in path.rglob("*") if found.is_file()}


@pytest.mark.parametrize("form", FORMATS)
def test_samples_come_back(tmp_path: Path, form: Format) -> None:
    """Every sample, exported in any form and imported again, has the same bytes."""
    for name in ("inbox.mbox", "maildir", "calendar"):
        bodies = imported(SAMPLES / name)
        export(tmp_path / name, form, bodies)
        expected = list(map(carried, bodies)) if form == "mbox" else bodies

        assert expected == imported(tmp_path / name)


def test_sample_inbox_is_carried() -> None:
    """Nothing in the sample inbox is beyond an mbox, since it comes from one."""
    bodies = imported(SAMPLES / "inbox.mbox")

    assert bodies == list(map(carried, bodies))


@settings(deadline=None)
@given(bodies=BODIES, chunk=st.integers(1, 9))
def test_mbox_identity(bodies: list[bytes], chunk: int) -> None:
    """An mbox gives back every item that it can carry, and quotes or ends the others, however they are cut."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "out.mbox"
        export(path, "mbox", bodies, chunk)

        assert list(map(carried, bodies)) == imported(path)


@settings(deadline=None)
@given(bodies=BODIES)
def test_mbox_twice(bodies: list[bytes]) -> None:
    """What came out of an mbox goes through the next one unchanged."""
    with TemporaryDirectory() as folder:
        first, second = Path(folder) / "1.mbox", Path(folder) / "2.mbox"
        export(first, "mbox", bodies)
        export(second, "mbox", imported(first))

        assert first.read_bytes() == second.read_bytes()


@settings(deadline=None)
@given(bodies=BODIES)
def test_maildir_identity(bodies: list[bytes]) -> None:
    """A Maildir gives back every item, in order."""
    with TemporaryDirectory() as folder:
        export(Path(folder) / "out", "maildir", bodies)

        assert bodies == imported(Path(folder) / "out")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", b""),
        (b"x", b"x\n"),
        (b"x\n", b"x\n"),
        (b"x\n\nFrom y\n", b"x\n\n>From y\n"),
        (b"\nFrom y\n", b"\n>From y\n"),
        (b"x\r\n\r\nFrom y\r\n", b"x\r\n\r\n>From y\r\n"),
        (b"x\n>From y\n\n>From z\n", b"x\n>From y\n\n>From z\n"),
        (b"x\nFrom y\n", b"x\nFrom y\n"),
    ],
)
def test_mbox_bytes(tmp_path: Path, body: bytes, expected: bytes) -> None:
    """An item in an mbox lies between an envelope line and an empty line, quoted only where it would split."""
    export(tmp_path / "out.mbox", "mbox", [body])

    envelope = b"From MAILER-DAEMON Thu Jan  1 00:00:00 1970\n"

    assert envelope + expected + b"\n" == (tmp_path / "out.mbox").read_bytes()


def test_mbox_for_python(tmp_path: Path) -> None:
    """Python's mailbox reads the exported sample inbox as we do."""
    bodies = imported(SAMPLES / "inbox.mbox")
    export(tmp_path / "out.mbox", "mbox", bodies)
    box = mailbox.mbox(tmp_path / "out.mbox", create=False)

    assert bodies == [box.get_bytes(key) for key in box.iterkeys()]

    box.close()


def test_maildir_for_python(tmp_path: Path) -> None:
    """Python's mailbox reads an exported Maildir, with names that are unique and without flags."""
    bodies = imported(SAMPLES / "inbox.mbox")
    export(tmp_path / "out", "maildir", bodies)
    box = mailbox.Maildir(tmp_path / "out", create=False)
    keys = sorted(box.keys())

    assert bodies == [box.get_bytes(key) for key in keys]
    assert ["0000000001.id0000.twinlock", "0000000002.id0001.twinlock"] == keys[:2]
    assert {("cur", "")} == {(box.get_message(key).get_subdir(), box.get_message(key).get_flags()) for key in keys}
    assert [] == [*(tmp_path / "out" / "tmp").iterdir(), *(tmp_path / "out" / "new").iterdir()]


def test_files(tmp_path: Path) -> None:
    """A folder gets one file an item, named by its id and kind, and nothing else."""
    kinds: list[tuple[str, Kind]] = [("b2", "ics"), ("a-1_X", "eml")]
    with open_writer(tmp_path / "out", "files") as writer:
        for item_id, kind in kinds:
            with writer.item(item_id, kind) as item:
                item.write(b"no line feed, \r\0\xff")

    assert {"a-1_X.eml", "b2.ics"} == {path.name for path in (tmp_path / "out").iterdir()}
    assert [b"no line feed, \r\0\xff"] * 2 == imported(tmp_path / "out")


@pytest.mark.parametrize("form", FORMATS)
def test_nothing_to_export(tmp_path: Path, form: Format) -> None:
    """An export of no items makes an empty folder, Maildir or mbox."""
    export(tmp_path / "out", form, [])

    assert [] == [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size]
    assert (tmp_path / "out").exists()


@pytest.mark.parametrize("form", FORMATS)
def test_private(tmp_path: Path, form: Format) -> None:
    """Files are 0600 and every folder that is made is 0700, even where the umask would allow more."""
    before = os.umask(0)
    try:
        export(tmp_path / "new" / "deep" / "out", form, [b"x\n"])
    finally:
        os.umask(before)
    folders = [path for path in (tmp_path / "new", *(tmp_path / "new").rglob("*")) if path.is_dir()]

    assert {0o600} == modes(tmp_path)
    assert {0o700} == {stat.S_IMODE(path.stat().st_mode) for path in folders}


@pytest.mark.parametrize("form", ["files", "maildir"])
def test_empty_folder_is_taken(tmp_path: Path, form: Format) -> None:
    """A folder that is empty, or a link to one, is exported to."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    export(tmp_path / "link", form, [b"x"])

    assert [b"x"] == imported(tmp_path / "real")


@pytest.mark.parametrize("form", ["files", "maildir"])
@pytest.mark.parametrize(
    ("target", "message"),
    [("full", "is not empty"), ("file", "exists and is not a folder"), ("dangling", "exists and is not a folder")],
)
def test_folder_refused(tmp_path: Path, form: Format, target: str, message: str) -> None:
    """A folder with anything in it, a file or a dangling link is refused before anything is written."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / ".hidden").touch()
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")

    with pytest.raises(TargetRefused) as refused:
        open_writer(tmp_path / target, form)

    assert f"{tmp_path / target} {message}" == refused.value.detail
    assert "give a path where nothing is yet, or an empty folder" == refused.value.hint


@pytest.mark.parametrize("target", ["file", "folder", "dangling"])
def test_mbox_refused(tmp_path: Path, target: str) -> None:
    """An mbox is never written over or into anything that exists."""
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")

    with pytest.raises(TargetRefused) as refused:
        open_writer(tmp_path / target, "mbox")

    assert f"{tmp_path / target} exists" == refused.value.detail
    assert "give the path of a file that does not exist yet" == refused.value.hint


@pytest.mark.parametrize("form", FORMATS)
def test_aborted_item(tmp_path: Path, form: Format) -> None:
    """An item that fails half way leaves nothing behind, and those before and after it are whole."""
    with open_writer(tmp_path / "out", form) as writer:
        with writer.item("one", "eml") as item:
            item.write(b"first\n")
        with pytest.raises(InterruptedError):
            write_half(writer)
        with writer.item("three", "eml") as item:
            item.write(b"third\n")

    assert [b"first\n", b"third\n"] == sorted(imported(tmp_path / "out"))
    assert [] == [path for path in tmp_path.rglob("*") if b"half" in path.name.encode() + contents(path)]


def write_half(writer: MailWriter) -> None:
    """Fail in the middle of an item."""
    with writer.item("two", "eml") as item:
        item.write(b"half\n" * 50_000)
        raise InterruptedError


def contents(path: Path) -> bytes:
    """Read a file, and nothing of a folder."""
    return path.read_bytes() if path.is_file() else b""


def abort(path: Path, form: Format) -> None:
    """Break an export off in its second item."""
    with open_writer(path, form) as writer:
        with writer.item("one", "eml") as item:
            item.write(b"first\n")
        with writer.item("two", "eml") as item:
            item.write(b"half")
            raise KeyboardInterrupt


@pytest.mark.parametrize(("form", "left"), [("files", 1), ("maildir", 1), ("mbox", 0)])
def test_aborted_export(tmp_path: Path, form: Format, left: int) -> None:
    """An export that is broken off leaves whole items in a folder or Maildir, and no mbox at all."""
    with pytest.raises(KeyboardInterrupt):
        abort(tmp_path / "out", form)

    assert [b"first\n"] * left == [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("form", FORMATS)
def test_nothing_under_the_name_yet(tmp_path: Path, form: Format) -> None:
    """While an item is being written no import could take it for a whole one."""
    with open_writer(tmp_path / "out", form) as writer, writer.item("one", "eml") as item:
        item.write(b"half")

        assert [] == [path for path in tmp_path.rglob("*.eml") if not path.name.startswith(".")]
        assert [] == list(tmp_path.glob("out/cur/*"))
        assert not (tmp_path / "out").is_file()


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("item_id", ["", "..", "../x", "a/b", ".hidden", "a.b", "a\0", "a\n", "-x", "x" * 129])
def test_unsafe_id(tmp_path: Path, form: Format, item_id: str) -> None:
    """An id that could lead out of the folder is refused in every form."""
    with open_writer(tmp_path / "out", form) as writer, pytest.raises(ValueError, match="letters, digits"):
        writer.item(item_id, "eml").__enter__()


@contextmanager
def disk_of(size: int) -> Iterator[None]:
    """Let no file grow beyond a size: the nearest thing to a full disk that needs no disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("size", [5_000, 50_000])
def test_full_disk(tmp_path: Path, form: Format, size: int) -> None:
    """A disk that is full at any write is reported with the target's name, and nothing of the item stays."""
    with disk_of(4_000), pytest.raises(TargetFailed) as failed:
        export(tmp_path / "out", form, [b"x" * size])

    assert failed.value.detail.startswith(str(tmp_path / "out"))
    assert failed.value.detail.endswith("can't be written: file too large")
    assert failed.value.hint.startswith("check the disk")
    assert [] == [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("form", FORMATS)
def test_room_again(tmp_path: Path, form: Format) -> None:
    """After a full disk the item is taken back whole, and the export goes on when there is room."""
    with open_writer(tmp_path / "out", form) as writer:
        with disk_of(4_000), pytest.raises(TargetFailed):
            write_half(writer)
        with writer.item("three", "eml") as item:
            item.write(b"third\n")

    assert [b"third\n"] == imported(tmp_path / "out")


def test_left_inside_an_item(tmp_path: Path) -> None:
    """An mbox that is left in the middle of an item is not completed."""
    writer = open_writer(tmp_path / "out.mbox", "mbox")
    writer.__enter__()
    item = writer.item("one", "eml")
    item.__enter__().write(b"half")
    with pytest.raises(TargetFailed, match="an item in it is not complete"):
        writer.__exit__(None, None, None)
    with pytest.raises(ValueError, match="closed file"):
        item.__exit__(None, None, None)

    assert [] == list(tmp_path.iterdir())


def test_nested_items(tmp_path: Path) -> None:
    """An mbox takes one item after the other: a second one at the same time would end up in the first."""
    with open_writer(tmp_path / "out.mbox", "mbox") as writer, writer.item("one", "eml") as item:
        with pytest.raises(TargetFailed):
            writer.item("two", "eml").__enter__()
        item.write(b"x\n")

    assert [b"x\n"] == imported(tmp_path / "out.mbox")


def test_target_taken_meanwhile(tmp_path: Path) -> None:
    """A file that somebody else puts at an mbox's path during the export is not overwritten."""
    writer = open_writer(tmp_path / "out.mbox", "mbox")
    writer.__enter__()
    (tmp_path / "out.mbox").write_bytes(b"theirs")
    with pytest.raises(TargetRefused):
        writer.__exit__(None, None, None)

    assert [("out.mbox", b"theirs")] == [(path.name, path.read_bytes()) for path in tmp_path.iterdir()]


def test_left_over(tmp_path: Path) -> None:
    """What a killed export left behind is named, with what to do about it."""
    (tmp_path / ".out.mbox.partial").write_bytes(b"decrypted")

    with pytest.raises(TargetFailed) as failed:
        export(tmp_path / "out.mbox", "mbox", [])

    assert f"{tmp_path / '.out.mbox.partial'} can't be written: file exists" == failed.value.detail
    assert failed.value.hint.endswith("remove it")


def test_no_right_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder in which this user may not write is refused with its name and the fix."""

    def forbidden(path: Path, *args: object, **options: object) -> int:
        raise PermissionError(13, "Permission denied", str(path))  # chmod does not stop a test that runs as root

    monkeypatch.setattr("os.mkdir", forbidden)

    with pytest.raises(TargetFailed) as failed:
        export(tmp_path / "out", "files", [])

    assert f"{tmp_path / 'out'} can't be written: permission denied" == failed.value.detail
    assert "export to a folder in which this user may write" == failed.value.hint


@pytest.mark.parametrize("form", FORMATS)
def test_nothing_left_of_a_refused_export(tmp_path: Path, form: Format) -> None:
    """An export that fails before its first item leaves nothing, not even the folders that it made."""
    with pytest.raises(RuntimeError), open_writer(tmp_path / "new" / "out", form):
        raise RuntimeError

    assert [] == list(tmp_path.iterdir())
