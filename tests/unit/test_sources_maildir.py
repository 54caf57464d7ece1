import mailbox
from pathlib import Path

import pytest

import cli
from twinlock.content.sources import NotMail, SourceChanged, open_source

SAMPLE = Path(cli.__file__).parent / "demo" / "samples" / "maildir"


@pytest.fixture
def maildir(tmp_path: Path) -> Path:
    """Make a Maildir without messages."""
    path = tmp_path / "Maildir"
    for part in ("cur", "new"):
        (path / part).mkdir(parents=True)
    return path


def names(path: Path) -> list[str]:
    """List the items by folder and name."""
    return [f"{message.path.parent.name}/{message.path.name}" for message in open_source(path).messages()]


def test_order(maildir: Path) -> None:
    """Items come by file name, from `cur` and `new` together."""
    for name in ("cur/3.c:2,S", "new/2.b", "cur/1.a:2,RS", "new/4.d"):
        (maildir / name).write_bytes(name.encode())

    assert ["cur/1.a:2,RS", "new/2.b", "cur/3.c:2,S", "new/4.d"] == names(maildir)


def test_bytes(maildir: Path) -> None:
    """An item is the whole file, also an empty one, and always a message."""
    (maildir / "cur" / "1.a:2,").write_bytes(b"From \r\n\0\xff no line feed")
    (maildir / "cur" / "2.b.ics:2,").write_bytes(b"")
    messages = list(open_source(maildir).messages())

    assert [b"From \r\n\0\xff no line feed", b""] == [message.read() for message in messages]
    assert ["eml", "eml"] == [message.kind for message in messages]
    assert [str(maildir / "cur" / "1.a:2,"), str(maildir / "cur" / "2.b.ics:2,")] == [m.label for m in messages]
    assert 22 == open_source(maildir).total_bytes()


def test_not_items(maildir: Path, tmp_path: Path) -> None:
    """What is in `tmp`, in other folders, hidden, a folder or a link is not an item."""
    outside = tmp_path / "outside.eml"
    outside.write_bytes(b"not yours")
    for folder in ("tmp", ".Sent/cur", "cur/folder"):
        (maildir / folder).mkdir(parents=True)
    for name in ("tmp/1.half", ".Sent/cur/1.a:2,", "cur/folder/1.a", "new/.nfs0001", "dovecot.index"):
        (maildir / name).write_bytes(b"x")
    (maildir / "cur" / "1.link:2,").symlink_to(outside)

    assert [] == names(maildir)


def test_without_tmp_or_mail(maildir: Path) -> None:
    """A Maildir may be empty, and `tmp` need not exist."""
    source = open_source(maildir)

    assert ([], 0) == (list(source.messages()), source.total_bytes())


def test_linked_part(maildir: Path, tmp_path: Path) -> None:
    """A folder whose `new` is a link to elsewhere is not taken for a Maildir."""
    (maildir / "new").rename(tmp_path / "elsewhere")
    (maildir / "new").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(NotMail):
        open_source(maildir)


def test_moved_meanwhile(maildir: Path) -> None:
    """A message that a mail program moves after the listing began is reported as changed, with its name."""
    path = maildir / "new" / "1.a"
    path.write_bytes(b"x")
    messages = open_source(maildir).messages()
    (message,) = messages
    path.rename(maildir / "cur" / "1.a:2,S")

    with pytest.raises(SourceChanged, match=r"1\.a changed while it was read"):
        message.read()


def test_became_a_link(maildir: Path, tmp_path: Path) -> None:
    """A message that turns into a link after it was listed is not read through the link."""
    secret, path = tmp_path / "secret", maildir / "new" / "1.a"
    secret.write_bytes(b"x")
    path.write_bytes(b"x")
    (message,) = open_source(maildir).messages()
    path.unlink()
    path.symlink_to(secret)

    with pytest.raises(SourceChanged):
        message.read()


def test_sample() -> None:
    """The sample Maildir gives the messages that Python's mailbox finds, and nothing from `tmp`."""
    box = mailbox.Maildir(SAMPLE, create=False)
    box.colon = "!"
    expected = sorted(box.get_bytes(key) for key in box.iterkeys())

    assert 7 == len(expected)
    # Python's Maildir turns every line end into the machine's own, which on POSIX changes nothing.
    assert expected == sorted(message.read() for message in open_source(SAMPLE).messages())
