"""Output: documents, tables and failures as programs and people see them."""

import io
import json
import logging
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from cli.failures import TimedOut, UsageFault, explain
from cli.logs import configure
from cli.output import Failure, Result, Table, complain, emit, fields, listing, plain
from cli.settings import SettingsFault
from events.home_lock import AlreadyRunning
from schemas.event import Malformed
from twinlock.content.sources import NotMail
from twinlock.custody.errors import KeyNotYet, KeyRefused
from twinlock.errors import NotFound
from twinlock.keys.errors import DecryptionError
from twinlock.keys.ports import Denied
from twinlock.store.engine import UnsupportedDatabase
from twinlock.vaults.administration import BadKeyUri, NoSuchKey

LOG = "home/twinlock.log"


class Terminal(io.StringIO):
    """Be a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def test_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    """With `--json` standard output holds the document and nothing else."""
    emit(Result({"name": "Zoë", "items": 3}, ["added Zoë"]), as_json=True)

    assert {"name": "Zoë", "items": 3} == json.loads(capsys.readouterr().out)


def test_list_is_an_array(capsys: pytest.CaptureFixture[str]) -> None:
    """An empty list is an empty array, and a sentence for people."""
    result = listing([], ("name",), "no tenants")
    emit(result, as_json=True)
    emit(result, as_json=False)

    assert "[]\nno tenants\n" == capsys.readouterr().out


def test_warnings_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    """A warning is no part of the document."""
    emit(Result({}, (), warnings=["mode none loses data"]), as_json=True)
    seen = capsys.readouterr()

    assert ("{}\n", "warning: mode none loses data\n") == (seen.out, seen.err)


def test_plain_table() -> None:
    """A table off a terminal is aligned text without colour; nothing is a dash, a truth is a word."""
    table = Table(("name", "is_trial", "policy", "counts"), [("acme", True, None, {"1": 2}), ("b", False, "p", [])])

    assert ("NAME  IS TRIAL  POLICY  COUNTS\nacme  yes       -       1: 2\nb     no        p       -\n") == plain(table)


def test_plain_fields() -> None:
    """A single thing is shown as names and values."""
    assert "is trial  yes\nname      acme\n" == plain(fields({"is_trial": True, "name": "acme"}))


def test_terminal_gets_a_box(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal gets a drawn table, in which foreign text is text and not markup."""
    out = Terminal()
    monkeypatch.setattr("sys.stdout", out)
    emit(listing([{"name": "[red]acme[/red]", "count": 1}], ("name", "count"), "none"), as_json=False)
    emit(listing([], ("name",), "no tenants"), as_json=False)

    assert "[red]acme[/red]" in out.getvalue()
    assert "━" in out.getvalue()
    assert "no tenants" in out.getvalue()


def test_nothing_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Control characters from names and messages are shown, not obeyed, and a message stays one line."""
    complain(Failure("no \x1b[2Jfile\nhere", "line\rtwo"))
    emit(Result({}, [Table((), [("name", "a\x1b[31m")])]), as_json=False)
    seen = capsys.readouterr()

    assert "twinlock: no \\x1b[2Jfile\\nhere\nhint: line\\rtwo\n" == seen.err
    assert "name  a\\x1b[31m\n" == seen.out


@pytest.mark.parametrize(
    ("error", "line", "hint", "code"),
    [
        (NotFound("there is no x", hint="add it"), "there is no x", "add it", 1),
        (KeyRefused("refused", policy="p", hint="h"), "refused", "h", 1),
        (KeyNotYet("not yet", policy="p", hint="again"), "not yet", "again", 3),
        (TimedOut("late"), "late", "", 3),
        (TimeoutError(), "the time is up", "give it more with --timeout", 3),
        (UsageFault("bad"), "bad", "", 2),
        (SettingsFault("bad settings"), "bad settings", "", 2),
        (UnsupportedDatabase("no"), "database: no", "", 2),
        (NotMail("no mail", hint="h"), "no mail", "h", 1),
        (BadKeyUri("no key", hint="h"), "no key", "h", 2),
        (NoSuchKey("gone", hint="make it"), "gone", "make it", 1),
        (Denied("disabled", uri="local://a/b", classifier="c"), "local://a/b: denied: disabled", "", 1),
        (DecryptionError(), "something stored does not decrypt", "bring it back from a backup", 1),
        (PermissionError(13, "Permission denied", "/x"), "/x: permission denied", "", 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_known_failures(error: Exception, line: str, hint: str, code: int) -> None:
    """Every known failure is one line, a hint where there is one, and its exit code."""
    assert Failure(line, hint, code) == explain(error, LOG)


def test_refused_event_names_its_reason() -> None:
    """An event from outside is refused with the reason's name."""
    found = explain(Malformed("time: Field required"), LOG)

    assert "the event was refused (malformed): time: Field required" == found.line


def test_second_worker_run_is_explained() -> None:
    """A second worker run is told which process has the home."""
    found = explain(AlreadyRunning(Path("/home/x"), 7), LOG)

    assert "/home/x" in found.line
    assert found.hint


def test_database_trouble_shows_no_statement() -> None:
    """Trouble with the database is named by its class: statements hold what must not be shown."""
    found = explain(OperationalError("INSERT secret", {"key": "secret"}, Exception("secret")), LOG)

    assert "the database can't be used (OperationalError)" == found.line
    assert "secret" not in found.hint


def test_group_is_unwrapped() -> None:
    """What a task group wraps is what is explained."""
    group = ExceptionGroup("tasks", [ExceptionGroup("inner", [NotFound("there is no x")])])

    assert "there is no x" == explain(group, LOG).line


def test_unexpected_failure_is_named_by_its_class(caplog: pytest.LogCaptureFixture) -> None:
    """An unexpected failure shows its class and the log's place; its message is written nowhere."""
    with caplog.at_level(logging.ERROR):
        found = explain(_raised(ZeroDivisionError("secret")), LOG)

    assert Failure("unexpected ZeroDivisionError", f"report it with the end of {LOG}") == found
    assert "test_output.py" in caplog.text
    assert "secret" not in caplog.text


def _raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:  # noqa: BLE001  # it needs its traceback
        return caught


def test_logs_go_to_the_home(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Warnings go to the file in the home alone, and with `--verbose` to standard error as well."""
    configure(tmp_path, to_terminal=False)
    logging.getLogger("twinlock.x").warning("quiet")
    configure(tmp_path, to_terminal=True)
    logging.getLogger("twinlock.x").warning("loud")
    configure(tmp_path / "nowhere", to_terminal=False)
    logging.getLogger("twinlock.x").warning("lost")
    seen = capsys.readouterr()

    assert "" == seen.out
    assert ["loud" in seen.err, "quiet" in seen.err, "lost" in seen.err] == [True, False, False]
    assert 2 == len((tmp_path / "twinlock.log").read_text().splitlines())


def test_full_log_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that has grown too large is kept once, and a new one begins."""
    monkeypatch.setattr("cli.logs.MOST_BYTES", 3)
    (tmp_path / "twinlock.log").write_text("long\n")
    configure(tmp_path, to_terminal=False)
    logging.getLogger("twinlock.x").warning("new")
    configure(tmp_path / "nowhere", to_terminal=False)

    assert "long\n" == (tmp_path / "twinlock.log.1").read_text()
    assert "new" in (tmp_path / "twinlock.log").read_text()
