import os
import socket
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path

import pytest

import cli
from twinlock.content.sources import NotMail, SourceChanged, Unreadable, open_source

SAMPLES = Path(cli.__file__).parent / "demo" / "samples"


def make(folder: Path, *names: str) -> Path:
    """Write files that hold their own names."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def found(folder: Path) -> list[tuple[str, str]]:
    """List kinds and paths of a folder's items."""
    return [(m.kind, str(m.path.relative_to(folder))) for m in open_source(folder).messages()]


def test_items(tmp_path: Path) -> None:
    """Every .eml and .ics file is an item, whatever the case of its suffix, at any depth, in a fixed order."""
    make(tmp_path, "b.eml", "a.ICS", "C.Eml", "z/1.eml", "d/deep/er/2.ics", "d/3.eml", ".eml", "archive.eml/4.eml")

    expected = [
        ("eml", ".eml"),
        ("eml", "C.Eml"),
        ("ics", "a.ICS"),
        ("eml", "b.eml"),
        ("eml", "archive.eml/4.eml"),
        ("eml", "d/3.eml"),
        ("ics", "d/deep/er/2.ics"),
        ("eml", "z/1.eml"),
    ]

    assert expected == found(tmp_path)


def test_not_items(tmp_path: Path) -> None:
    """Other files are left where they are."""
    make(tmp_path, "a.eml", "b.txt", "c.eml.partial", "eml", "ics", "d.mbox", "e.eml~")

    assert [("eml", "a.eml")] == found(tmp_path)


@pytest.mark.parametrize("data", [b"", b"\0", b"From a\n\nFrom b\n", b"\xff\xfe", b"no line feed", b"x" * 200_000])
def test_any_bytes(tmp_path: Path, data: bytes) -> None:
    """An item is the whole file, whatever its bytes."""
    (tmp_path / "a.eml").write_bytes(data)
    (message,) = open_source(tmp_path).messages()

    assert data == message.read()
    assert (0, len(data)) == (message.start, message.size)
    assert len(data) == open_source(tmp_path).total_bytes()


def test_links(tmp_path: Path) -> None:
    """Links are never followed: neither out of the folder nor round in it."""
    outside, folder = make(tmp_path / "outside", "secret.eml"), make(tmp_path / "mail", "a.eml")
    (folder / "out.eml").symlink_to(outside / "secret.eml")
    (folder / "twice.eml").symlink_to(folder / "a.eml")
    (folder / "out").symlink_to(outside)
    (folder / "round").symlink_to(folder)

    assert [("eml", "a.eml")] == found(folder)


def test_link_to_the_folder(tmp_path: Path) -> None:
    """The path itself may be a link: who gave it meant what it points to."""
    make(tmp_path / "mail", "a.eml")
    (tmp_path / "link").symlink_to(tmp_path / "mail")

    assert [("eml", "a.eml")] == found(tmp_path / "link")


def test_special_files_inside(tmp_path: Path) -> None:
    """A pipe that is called like a message is left alone: reading it would wait for ever."""
    make(tmp_path, "a.eml")
    os.mkfifo(tmp_path / "pipe.eml")

    assert [("eml", "a.eml")] == found(tmp_path)


def test_deep(tmp_path: Path) -> None:
    """A folder may be nested deeper than the interpreter's stack."""
    folders = [tmp_path.joinpath(*["d"] * depth) for depth in range(1, 1200)]
    for folder in folders:
        folder.mkdir()
    path = folders[-1] / "a.eml"
    path.write_bytes(b"x")

    (message,) = open_source(tmp_path).messages()

    assert b"x" == message.read()

    path.unlink()
    for folder in reversed(folders):  # pytest's own cleaning up is recursive
        folder.rmdir()


def test_gone_meanwhile(tmp_path: Path) -> None:
    """A file that goes while the folder is listed is reported as changed, by the listing or by the reading."""
    make(tmp_path, "a.eml", "b.eml")
    messages = open_source(tmp_path).messages()
    first = next(messages)
    (tmp_path / "a.eml").unlink()
    (tmp_path / "b.eml").unlink()

    with pytest.raises(SourceChanged, match=r"a\.eml changed"):
        first.read()
    with pytest.raises(SourceChanged, match=r"b\.eml changed"):
        next(messages)


@pytest.mark.parametrize("name", ["nothing", "file/below", "dangling"])
def test_missing(tmp_path: Path, name: str) -> None:
    """A path that does not exist is refused with its name."""
    make(tmp_path, "file")
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")

    with pytest.raises(NotMail) as refused:
        open_source(tmp_path / name)

    assert f"{tmp_path / name} does not exist" == refused.value.detail
    assert refused.value.hint.startswith("check the path; give an mbox file")


@pytest.mark.parametrize("names", [[], ["inbox.mbox", "sub/b.txt"], ["cur/1.a:2,"]])
def test_folder_without_mail(tmp_path: Path, names: list[str]) -> None:
    """A folder without a mail file that is no Maildir either is refused, and the hint says what is mail."""
    make(tmp_path, *names)

    with pytest.raises(NotMail) as refused:
        open_source(tmp_path)

    assert f"{tmp_path} holds no .eml or .ics file, and is no Maildir" == refused.value.detail
    assert "an mbox file is given by its own path" in refused.value.hint


@pytest.fixture
def special(tmp_path: Path) -> Iterator[dict[str, Path]]:
    """Make one of each special file."""
    pipe, listening = tmp_path / "pipe", tmp_path / "socket"
    os.mkfifo(pipe)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(listening))
        yield {"pipe": pipe, "socket": listening, "device": Path("/dev/null")}


@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
def test_special(special: dict[str, Path], kind: str) -> None:
    """A special file is refused without being opened."""
    with pytest.raises(NotMail) as refused:
        open_source(special[kind])

    assert f"{special[kind]} is neither a file nor a folder" == refused.value.detail
    assert refused.value.hint.startswith("give an mbox file")


def test_unreadable_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder inside that this user may not read stops the listing: nothing is left out in silence."""
    make(tmp_path, "a.eml", "private/b.eml")
    scandir = os.scandir

    def guarded(path: Path) -> object:
        if path.name == "private":
            raise PermissionError(13, "Permission denied", str(path))  # chmod does not stop a test that runs as root
        return scandir(path)

    monkeypatch.setattr("os.scandir", guarded)
    messages = open_source(tmp_path).messages()
    next(messages)

    with pytest.raises(Unreadable) as refused:
        next(messages)

    assert f"{tmp_path / 'private'} can't be read: permission denied" == refused.value.detail


def test_strange_names(tmp_path: Path) -> None:
    """A file name that is no text, or would steer a terminal, is shown escaped and read as it is."""
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\x1b[31m\n.eml"))
    path.write_bytes(b"x")
    (message,) = open_source(tmp_path).messages()

    assert b"x" == message.read()
    assert f"{tmp_path}/\\udcff\\x1b[31m\\n.eml" == message.label


def test_samples() -> None:
    """The sample calendar holds six .ics and three .eml files, an empty one among them; the notes stay out."""
    messages = list(open_source(SAMPLES / "calendar").messages())

    assert {"eml": 3, "ics": 6} == {kind: sum(m.kind == kind for m in messages) for kind in ("eml", "ics")}
    assert ["empty.eml"] == [m.path.name for m in messages if m.size == 0]


def test_samples_parse() -> None:
    """Python's parser takes every sample message, and finds what the samples are meant to show."""
    messages = [m for name in ("inbox.mbox", "maildir", "calendar") for m in open_source(SAMPLES / name).messages()]
    parsed = [message_from_bytes(m.read()) for m in messages if m.kind == "eml"]
    types = {part.get_content_type() for message in parsed for part in message.walk()}

    assert {"image/png", "application/pdf", "text/csv", "text/calendar", "message/rfc822", "text/html"} <= types
    assert 28 == len(parsed)
    assert any(message.defects for message in parsed)


def test_samples_stay_small() -> None:
    """The samples are small enough to be carried by every installation."""
    assert sum(path.stat().st_size for path in SAMPLES.rglob("*") if path.is_file()) < 300_000
