"""The whole story with known secrets, and a search for them in everything that was written.

The secrets: canaries in subjects, bodies, attachments and file names, and the bytes of every key that was made, derived
or read on the way. The places: every file of the home at the end of every command and in the middle of it, what was
printed, logs at their most talkative, events, and the `repr` of every object of ours that lives at a crash point. Only
the embedded vaults' folders and the key of the audit log may hold key bytes; an export may hold mail.
"""

import base64
import gc
import logging
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from email.message import EmailMessage
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cli import logs
from schemas.envelope import Envelope, serialise
from tests.faults.searching import Search, pages, record_keys
from twinlock.crashpoints import CrashPoint, arm
from twinlock.store import unit

if TYPE_CHECKING:
    from tests.faults.conftest import Home

ANN = "ann@acme.example"
KEYS = ("local://left/key", "local://right/key")
CANARIES = {
    name: f"canary-{name}-7f3a9c51d2e8".encode()
    for name in ("subject", "body", "attachment", "attached-name", "file-name", "medium", "large", "calendar")
}
TALKATIVE = ("", "aiosqlite", "alembic", "asyncio", "sqlalchemy")


class Recorder:
    """Keep every key that exists and everything that is written; the same page of a file is kept once."""

    def __init__(self, home: "Home", monkeypatch: pytest.MonkeyPatch) -> None:
        self.home = home
        self.keys = record_keys(monkeypatch)
        self.texts: dict[str, set[bytes]] = {"printed": set(), "events": set(), "reprs": set(), "files": set()}
        self._reached: Counter[CrashPoint] = Counter()
        self._record_events(monkeypatch)
        self._log_everything(monkeypatch)
        for point in CrashPoint:
            arm(point, self._looking(point))

    def run(self, *arguments: str, code: int = 0) -> str:
        """Run a command, keep all that it wrote, and return what it printed."""
        self._reached.clear()
        ran = self.home.run("--verbose", *arguments)
        self.texts["printed"] |= {ran.out.encode(), ran.err.encode()}
        self._keep_files()

        assert code == ran.code, ran.err[-2000:]
        return ran.out

    def _record_events(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def recorded(envelope: Envelope) -> bytes:
            body = serialise(envelope)
            self.texts["events"].add(body)
            return body

        monkeypatch.setattr(unit, "serialise", recorded)

    def _log_everything(self, monkeypatch: pytest.MonkeyPatch) -> None:
        configure = logs.configure

        def configured(home: Path, to_terminal: bool) -> None:
            configure(home, to_terminal)
            for name in TALKATIVE:
                monkeypatch.setattr(logging.getLogger(name), "level", logging.DEBUG)
            for handler in logging.getLogger().handlers:
                handler.setLevel(logging.DEBUG)

        monkeypatch.setattr(logs, "configure", configured)

    def _looking(self, point: CrashPoint) -> Callable[[], None]:
        def look() -> None:
            self._reached[point] += 1
            if self._reached[point] in (1, 4):
                self._keep_files()
                self.texts["reprs"].update(repr(each).encode() for each in ours())

        return look

    def _keep_files(self) -> None:
        for path in self.home.path.rglob("*"):
            if path.is_file() and not is_allowed(path.relative_to(self.home.path)):
                self.texts["files"] |= pages(path.read_bytes())
                self.texts["files"].add(path.name.encode())


def is_allowed(path: Path) -> bool:
    """Tell whether a file of the home may hold key bytes."""
    return path.parts[0] == "vaults" or path == Path("secrets", "audit.key")


def ours() -> Iterator[object]:
    """Yield every living object of a class of ours."""
    for each in gc.get_objects():
        module = getattr(type(each), "__module__", None)
        if isinstance(module, str) and module.partition(".")[0] in ("cli", "workers", "events", "twinlock", "schemas"):
            yield each


@pytest.fixture
def secret_mail(tmp_path: Path) -> Path:
    """Return a folder of mail full of canaries: small, above 128 KiB, above 1 MiB, and a calendar entry."""
    folder = tmp_path / "mail"
    folder.mkdir()
    words = {name: canary.decode() for name, canary in CANARIES.items()}
    message = EmailMessage()
    message["Subject"] = words["subject"]
    message.set_content(words["body"])
    message.add_attachment(f"{words['attachment']}\n", filename=f"{words['attached-name']}.txt")
    (folder / f"{words['file-name']}.eml").write_bytes(message.as_bytes())
    (folder / "twin.eml").write_bytes(message.as_bytes())
    (folder / "medium.eml").write_bytes(CANARIES["medium"] * 6000)
    (folder / "large.eml").write_bytes(CANARIES["large"] * 50_000)
    (folder / "entry.ics").write_bytes(b"BEGIN:VCALENDAR\nSUMMARY:" + CANARIES["calendar"] + b"\nEND:VCALENDAR\n")
    return folder


def tell(recorder: Recorder, mail: Path, out: Path) -> None:
    """Have everything happen that can happen to mail: protected, moved, rolled, revoked, deleted, damaged, reverted."""
    run, keys = recorder.run, [word for uri in KEYS for word in ("--key", uri)]
    run("init")
    run("tenant", "add", "acme")
    for uri in KEYS:
        run("key", "create", uri)
    run("policy", "create", "--tenant", "acme", "--name", "main", "--workload", "mailbox", *keys)
    run("mailbox", "add", ANN, "--tenant", "acme")
    run("mailbox", "import", ANN, str(mail))
    run("policy", "assign", "acme/main", "--mailbox", ANN)
    run("mailbox", "show", ANN)
    run("status")
    run("mailbox", "export", ANN, str(out / "first"))
    run("key", "rotate", KEYS[0])
    run("policy", "refresh", "acme/main")
    run("policy", "refresh", "acme/main", "--new-policy-key")
    run("mailbox", "move", ANN)
    for uri in KEYS:
        run("key", "disable", uri)
    run("mailbox", "export", ANN, str(out / "refused"), code=1)
    run("mailbox", "export", ANN, str(out / "service"), "--as", "service:index")
    for uri in KEYS:
        run("key", "enable", uri)
    run("mailbox", "delete", ANN, run("mailbox", "items", ANN).splitlines()[-1].split()[0])
    run("policy", "assign", "service", "--mailbox", ANN)
    with closing(sqlite3.connect(recorder.home.path / "twinlock.db", isolation_level=None)) as database:
        database.execute("UPDATE items SET body = zeroblob(length(body)) WHERE body IS NOT NULL")
    run("mailbox", "export", ANN, str(out / "damaged"), code=1)


def test_nothing_leaks(bare: "Home", secret_mail: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No mail and no key is in anything that is written, but keys in the embedded vaults and mail in an export."""
    recorder = Recorder(bare, monkeypatch)
    tell(recorder, secret_mail, tmp_path / "out")
    keys = recorder.keys | {"audit": (bare.path / "secrets" / "audit.key").read_bytes()}
    search = Search(CANARIES | keys)
    found = {name: {secret for text in texts for secret in search(text)} for name, texts in recorder.texts.items()}
    vaults = {secret for path in (bare.path / "vaults").rglob("*.json") for secret in search(path.read_bytes())}
    mail = {secret for path in (tmp_path / "out" / "first").iterdir() for secret in search(path.read_bytes())}

    assert {"printed": set(), "events": set(), "reprs": set(), "files": set()} == found
    assert set(CANARIES) - {"file-name"} == mail
    assert {"root", "key"} == {name.split()[0] for name in vaults}
    assert all(recorder.texts.values())


@pytest.mark.parametrize("before", range(3))
@pytest.mark.parametrize("secret", [CANARIES["subject"], bytes(range(224, 256)), b"\x00\xfb\xff\xbe" * 8])
def test_search_finds(secret: bytes, before: int) -> None:
    """The search finds a planted secret in every spelling, wherever it stands."""
    text = b"<" * before + secret + b">>"
    planted = [text, text.hex().encode(), text.hex().upper().encode(), repr(text).encode()]
    planted += [base64.b64encode(text), base64.urlsafe_b64encode(text)]
    with suppress(UnicodeDecodeError):
        planted += [text.decode().encode("utf-16"), text.decode().encode("utf-16-be")]
    search = Search({"planted": secret})

    assert [{"planted"}] * len(planted) == [search(b"something before " + each) for each in planted]
    assert set() == search(b"something else" * 100)
