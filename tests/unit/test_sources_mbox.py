import mailbox
import os
import tracemalloc
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cli
from twinlock.content.sources import MailError, NotMail, SourceChanged, SourceMessage, Unreadable, open_source
from twinlock.content.sources.mbox import MboxSource

INBOX = Path(cli.__file__).parent / "demo" / "samples" / "inbox.mbox"

PIECES = [b"From ", b">From ", b"From", b"\n", b"\n\n", b"\r\n", b"\r", b" ", b"a", b"Subject: x\n", b"\0", b"\xff"]


def mbox(folder: Path, data: bytes) -> Path:
    """Write an mbox file."""
    path = folder / "some.mbox"
    path.write_bytes(data)
    return path


def items(path: Path, block: int = 1024) -> list[bytes]:
    """Read all items."""
    return [message.read() for message in MboxSource(path, block).messages()]


def line_by_line(data: bytes) -> list[bytes]:
    """Read an mbox the slow way, with all of it in memory."""
    found: list[list[bytes]] = []
    after_empty = True
    for line in BytesIO(data).readlines():
        if after_empty and line.startswith(b"From "):
            found.append([])
        found[-1].append(line)
        after_empty = line in (b"\n", b"\r\n")
    return [b"".join(without_separator(*lines)) for lines in found]


def without_separator(envelope: bytes, *lines: bytes) -> tuple[bytes, ...]:
    """Drop the empty line that ends an item."""
    separators = (b"\n", b"\r\n") if envelope.endswith(b"\r\n") else (b"\n",)
    return lines[:-1] if lines and lines[-1] in separators else lines


def python_items(path: Path) -> list[bytes]:
    """Read all items with Python's mailbox."""
    box = mailbox.mbox(path, create=False)
    try:
        by_file = [box.get_file(key).read() for key in box.iterkeys()]

        assert [box.get_bytes(key) for key in box.iterkeys()] == by_file

        return by_file
    finally:
        box.close()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"From a", [b""]),
        (b"From a\n", [b""]),
        (b"From a\n\n", [b""]),
        (b"From a\n\n\n", [b"\n"]),
        (b"From a\nbody", [b"body"]),
        (b"From a\nbody\n", [b"body\n"]),
        (b"From a\nbody\n\n", [b"body\n"]),
        (b"From a\nbody\n\n\n", [b"body\n\n"]),
        (b"From a\n\nFrom b\n\nFrom c\n", [b"", b"", b""]),
        (b"From a\nSubject: x\n\n\nFrom b\nbody\n\n", [b"Subject: x\n\n", b"body\n"]),
        (b"From a\n>From x\n\n>From y\n\nFrom b\n", [b">From x\n\n>From y\n", b""]),
        (b"From a\nx\r\n\r\ny\r\n\nFrom b\nz\r\n\r\n\n", [b"x\r\n\r\ny\r\n", b"z\r\n\r\n"]),
        (b"From a\nx\n\nFromage\n\nfrom x\n", [b"x\n\nFromage\n\nfrom x\n"]),
    ],
)
def test_items_as_python(tmp_path: Path, data: bytes, expected: list[bytes]) -> None:
    """An item is what lies between its envelope line and the empty line after it, as Python's mailbox has it."""
    path = mbox(tmp_path, data)

    assert expected == items(path)
    assert expected == python_items(path)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"From a\r\n\r\nFrom b\r\nx\r\n\r\n", [b"", b"x\r\n"]),
        (b"From a\r\nx\r\n\r\n\r\nFrom b\r\ny", [b"x\r\n\r\n", b"y"]),
        (b"From a\r\nx\r\n\nFrom b\n", [b"x\r\n", b""]),
        (b"From a\nx\r\n\r\nFrom b\n", [b"x\r\n\r\n", b""]),
        (b"From a\nx\nFrom here on\n\nFrom b\n", [b"x\nFrom here on\n", b""]),
        (b"From a\nFrom b\nx\n", [b"From b\nx\n"]),
    ],
)
def test_items_beyond_python(tmp_path: Path, data: bytes, expected: list[bytes]) -> None:
    """A CRLF file is read like any other, and `From ` inside a paragraph is text."""
    assert expected == items(mbox(tmp_path, data))


@settings(deadline=None)
@given(pieces=st.lists(st.sampled_from(PIECES)), block=st.integers(1, 12))
def test_any_file_any_block(pieces: list[bytes], block: int) -> None:
    """Whatever the bytes and wherever the blocks end, the items are those of a reading line by line."""
    data = b"From a\n" + b"".join(pieces)
    with TemporaryDirectory() as folder:
        assert line_by_line(data) == items(mbox(Path(folder), data), block)


@settings(deadline=None)
@given(bodies=st.lists(st.lists(st.sampled_from([piece for piece in PIECES if piece != b"\r\n"])).map(b"".join)))
def test_written_by_python(bodies: list[bytes]) -> None:
    """A file that Python's mailbox wrote gives the items that Python's mailbox reads from it."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "python.mbox"
        box = mailbox.mbox(path)
        for body in bodies:
            box.add(b"X: y\n\n" + body)
        box.close()

        assert python_items(path) == items(path, 7)


@pytest.mark.parametrize("block", [1, 2, 5, 6, 7, 8, 9, 4096])
def test_sample(block: int) -> None:
    """The sample inbox gives the same items as in Python's mailbox, whatever the block size."""
    expected = python_items(INBOX)

    assert 18 == len(expected)
    assert expected == items(INBOX, block)


@pytest.mark.parametrize("shift", range(9))
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_marker_across_blocks(tmp_path: Path, shift: int, line_end: bytes) -> None:
    """An envelope is found once wherever the border of a block cuts it."""
    body = b"x" * (64 - shift) + line_end
    data = (b"From a" + line_end + body + line_end) * 5

    assert [body] * 5 == items(mbox(tmp_path, data), 64)


def test_listing(tmp_path: Path) -> None:
    """A listing names kind, place and size, in the file's order, and needs no bytes of the items."""
    path = mbox(tmp_path, b"From a\none\n\nFrom b\nthree\n\n")

    messages = list(open_source(path).messages())

    assert [("eml", 7, 4), ("eml", 19, 6)] == [(message.kind, message.start, message.size) for message in messages]
    assert [f"{path} at byte 7", f"{path} at byte 19"] == [message.label for message in messages]
    assert path.stat().st_size == open_source(path).total_bytes()


def test_chunks(tmp_path: Path) -> None:
    """An item is read in pieces of the size asked for, and nothing beyond its end."""
    path = mbox(tmp_path, b"From a\n0123456789\n\nFrom b\nnext\n")
    message = next(open_source(path).messages())

    assert [b"0123", b"4567", b"89\n"] == list(message.chunks(4))


def test_no_line_in_memory(tmp_path: Path) -> None:
    """A line of 128 MiB, in an item or as an envelope, is listed and read in a few MiB of memory."""
    line = 128 << 20
    path = mbox(tmp_path, b"From a\n")
    os.truncate(path, 7 + line)
    with path.open("ab") as file:
        file.write(b"\n\nFrom b")
        file.truncate(2 * line)
    tracemalloc.start()
    try:
        first, second = open_source(path).messages()
        read = sum(map(len, first.chunks()))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert (line + 1, 0) == (first.size, second.size)
    assert first.size == read
    assert peak < 8 << 20


def test_lazy(tmp_path: Path) -> None:
    """The first item is there before the rest of the file is searched."""
    path = mbox(tmp_path, b"From a\none\n\nFrom b\n" + b"x\n" * 5000)
    messages = MboxSource(path, 32).messages()

    assert b"one\n" == next(messages).read()


def one_item(tmp_path: Path) -> tuple[Path, SourceMessage]:
    """List an mbox with one item."""
    path = mbox(tmp_path, b"From a\n" + b"x" * 1000 + b"\n")
    (message,) = open_source(path).messages()
    return path, message


def grow(path: Path) -> None:
    """Append to a file."""
    with path.open("ab") as file:
        file.write(b"more\n")


def shorten(path: Path) -> None:
    """Cut a file."""
    os.truncate(path, 500)


def touch(path: Path) -> None:
    """Change nothing but a file's time."""
    os.utime(path, ns=(0, 0))


def replace(path: Path) -> None:
    """Put another file of the same size and time in its place."""
    status, other = path.stat(), path.with_suffix(".other")
    other.write_bytes(bytes(status.st_size))
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.rename(path)


def remove(path: Path) -> None:
    """Delete a file."""
    path.unlink()


@pytest.mark.parametrize("change", [grow, shorten, touch, replace, remove])
def test_changed_before_reading(tmp_path: Path, change: Callable[[Path], None]) -> None:
    """An item of a file that has changed since it was listed is refused, with the file's name."""
    path, message = one_item(tmp_path)
    change(path)

    with pytest.raises(SourceChanged) as refused:
        message.read()

    assert f"{path} changed while it was read" == refused.value.detail
    assert refused.value.hint.startswith("import it again")


@pytest.mark.parametrize("change", [grow, shorten, touch])
def test_changed_while_reading(tmp_path: Path, change: Callable[[Path], None]) -> None:
    """A file that changes between two pieces of an item is refused at the next piece."""
    path, message = one_item(tmp_path)
    chunks = message.chunks(100)
    next(chunks)
    change(path)

    with pytest.raises(SourceChanged):
        next(chunks)


def test_changed_empty_item(tmp_path: Path) -> None:
    """An item without bytes is checked as well."""
    path = mbox(tmp_path, b"From a\n")
    (message,) = open_source(path).messages()
    grow(path)

    with pytest.raises(SourceChanged):
        message.read()


def test_shorter_while_listed(tmp_path: Path) -> None:
    """A file that is cut while it is listed ends in an error, not in a short listing."""
    path = mbox(tmp_path, b"From a\none\n\nFrom b\n" + b"x\n" * 5000)
    messages = MboxSource(path, 32).messages()
    next(messages)
    os.truncate(path, 40)

    with pytest.raises(SourceChanged):
        list(messages)


def test_gone_before_listing(tmp_path: Path) -> None:
    """A file that goes after it was opened is reported as changed, by the listing and by the total."""
    path = mbox(tmp_path, b"")
    source = open_source(path)
    path.unlink()

    with pytest.raises(SourceChanged):
        list(source.messages())
    with pytest.raises(SourceChanged):
        source.total_bytes()


def test_empty_file(tmp_path: Path) -> None:
    """An empty file is an mbox without messages."""
    source = open_source(mbox(tmp_path, b""))

    assert ([], 0) == (list(source.messages()), source.total_bytes())


@pytest.mark.parametrize(
    "data", [b"\nFrom a\n", b"Subject: x\n\nbody\n", b"from a\n", b"From", b"\xef\xbb\xbfFrom a\n"]
)
def test_not_an_mbox(tmp_path: Path, data: bytes) -> None:
    """A file whose first line is no envelope is refused, and the hint says what is mail."""
    path = mbox(tmp_path, data)

    with pytest.raises(NotMail) as refused:
        open_source(path)

    assert f"{path} is not an mbox file: its first line does not start with 'From '" == refused.value.detail
    assert "give an mbox file, a Maildir, or a folder with .eml and .ics files" == refused.value.hint


@pytest.mark.parametrize("name", ["one.eml", "ONE.EML", "one.ics"])
def test_single_message(tmp_path: Path, name: str) -> None:
    """A single .eml or .ics file is refused with the way to import it."""
    path = tmp_path / name
    path.write_bytes(b"Subject: x\n\nbody\n")

    with pytest.raises(NotMail) as refused:
        open_source(path)

    assert refused.value.hint.startswith("put it in a folder and import the folder")


def test_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that this user may not read is refused with its name and the right that is missing."""
    path = mbox(tmp_path, b"From a\n")

    def forbidden(self: Path, *args: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))  # chmod does not stop a test that runs as root

    monkeypatch.setattr(Path, "open", forbidden)

    with pytest.raises(NotMail) as refused:
        open_source(path)

    assert isinstance(refused.value, Unreadable)
    assert f"{path} can't be read: permission denied" == refused.value.detail
    assert "give this user the right to read it (chmod u+r, for a folder u+rx)" == refused.value.hint


def test_failing_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An input/output error in the middle of a file is reported with the file's name and no traceback of its own."""
    path = mbox(tmp_path, b"From a\nbody\n")

    def failing(*args: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.pread", failing)

    with pytest.raises(Unreadable) as failed:
        list(open_source(path).messages())

    assert f"{path} can't be read: input/output error" == failed.value.detail
    assert failed.value.hint.startswith("check the disk")


def test_one_family() -> None:
    """Every refusal is a MailError and a ValueError."""
    assert issubclass(NotMail, MailError)
    assert issubclass(SourceChanged, MailError)
    assert issubclass(MailError, ValueError)
