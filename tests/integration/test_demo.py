"""The demo tells its whole story, and does not take it for granted."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.command import Flags
from cli.demo import story
from cli.demo.mail import CALENDAR
from cli.demo.stage import Stage
from cli.main import run

COPIES, LARGE_BYTES = 40, 3 * 1024 * 1024


@pytest.fixture(autouse=True)
def _private() -> Iterator[None]:
    old = os.umask(0o077)
    yield
    os.umask(old)


def results(out: str) -> dict[str, str]:
    """Return the table of the end: what came of every step."""
    table = out[out.index("STEP ") :].splitlines()[1:]
    rows = [re.split(r"  +", line) for line in table]
    return {row[0]: row[2] for row in rows if len(row) == 4}


def test_demo(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step is shown and every proof holds, in plain text; a person's own settings lead nowhere and stay."""
    own = {"TWINLOCK_HOME": str(tmp_path / "own"), "TWINLOCK_DATABASE": f"sqlite+aiosqlite:///{tmp_path}/own.db"}
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    code = story.run(tmp_path / "demo", run, COPIES, LARGE_BYTES)
    out, err = capfd.readouterr()
    here = {path.name for path in tmp_path.iterdir()}

    assert (0, dict.fromkeys([title for title, _ in story.SCENES], "ok")) == (code, results(out)), err
    assert out.count("   ok: ") == 44
    assert "Every proof held" in out
    assert "FAILED" not in out
    assert "\x1b" not in out
    assert "$ twinlock mailbox export ben@contoso.example refused/0\n   twinlock: policy contoso/mail refuses" in out
    assert {"re-encrypting", "rewrapping"} >= {line.partition(":")[0] for line in err.splitlines()}
    assert {"demo"} == here
    assert own == {name: os.environ[name] for name in own}


def test_broken_proofs_are_noticed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A changed byte in an export and mail planted among the objects fail the demo, and both are named."""
    demo = tmp_path / "demo"

    def tampering(arguments: list[str], flags: Flags) -> int:
        code = run(arguments, flags)
        if arguments[-2] == "out/ben":
            victim = max((demo / "out" / "ben").iterdir(), key=lambda path: path.stat().st_size)
            victim.write_bytes(victim.read_bytes()[:-1] + b"?")
            (demo / "home" / "objects" / "planted").write_bytes((demo / CALENDAR / "keel-laying.ics").read_bytes())
        return code

    code = story.run(demo, tampering, copies=1, large_bytes=LARGE_BYTES)
    out, err = capfd.readouterr()
    failed = {title for title, result in results(out).items() if result != "ok"}

    assert (1, {"export equals import", "no plaintext on disk"}) == (code, failed)
    assert len(results(out)) == len(story.SCENES)
    assert "twinlock: the demo failed: export equals import: 1 items are missing or changed" in err
    assert "no plaintext on disk: planted holds content that anybody can read" in err


def test_failing_command_stops(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A command that fails ends the story with one line that names it; what was shown until then is still shown."""
    code = story.run(tmp_path / "demo", lambda arguments, flags: 1, copies=1)
    out, err = capfd.readouterr()

    assert (1, {"set up": "FAILED"}) == (code, results(out))
    assert "twinlock: the demo stopped: set up: `twinlock init` ended with exit code 1\n" == err


def test_interrupted(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """An interruption of a command ends the story."""
    code = story.run(tmp_path / "demo", lambda arguments, flags: 130, copies=1)

    assert (130, "twinlock: interrupted\n") == (code, capfd.readouterr().err)


def test_defect_shows_no_traceback(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What nobody expected is one line and a hint."""

    def defect(arguments: list[str], flags: Flags) -> int:
        raise ZeroDivisionError

    code = story.run(tmp_path / "demo", defect, copies=1)
    err = capfd.readouterr().err

    assert code == 1
    assert ["twinlock: unexpected ZeroDivisionError", "hint: "] == [err.splitlines()[0], err.splitlines()[1][:6]]


def test_nothing_is_left(capfd: pytest.CaptureFixture[str]) -> None:
    """Without --keep the folder is gone, also after a failure."""
    story.run(None, lambda arguments, flags: 1, copies=1)
    place = capfd.readouterr().out.splitlines()[2].removesuffix(" (removed at the end)")

    assert Path(place).name.startswith("twinlock-demo-")
    assert not Path(place).exists()


def test_foreign_folder_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A folder with other files is not worked in."""
    (tmp_path / "mine").touch()
    code = run(["demo", "--keep", str(tmp_path)])

    assert (1, f"twinlock: {tmp_path} is not empty") == (code, capfd.readouterr().err.splitlines()[0])
    assert ["mine"] == [path.name for path in tmp_path.iterdir()]


def test_refusal_that_does_not_come(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A command that has to be refused and is not says nothing that a proof could take for a refusal."""
    stage = Stage(tmp_path, lambda arguments, flags: 0)

    assert stage.refused("mailbox export ben@contoso.example refused") == ""
    assert "[exit code 0]" in capfd.readouterr().out
