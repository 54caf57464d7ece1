"""Scripts of commands as a person types them, with the exact output: one file, one story.

A script begins with directives: `home:` (`empty`, `initialised`, or `customer`, see `PREPARATIONS`) and
`env: NAME=VALUE`. A line `$ COMMAND` runs in a folder of the script's own; what follows is its standard output, lines
that begin with `! ` its standard error, and `[exit N]` its exit code, 0 if it is not there; empty lines do not count.

`{id}`, `{number}` and `{time}` match anything of that form; with a name, as in `{id:main}`, the first match is kept and
is meant by the same words from there on, in commands too. `{here}` is the folder. A command with a pipe or a
redirection, or of another program, runs in a shell; all others in this process.
"""

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cli.main import run

HERE = Path(__file__).parent
SAMPLES = HERE.parents[1] / "cli" / "demo" / "samples"
SHAPES = {"id": "[0-9a-f]{32}", "number": r"[0-9]+(?:\.[0-9]+)?", "time": r"[0-9:.T+-]{19,32}Z?"}
PLACE = re.compile(r"\{(id|number|time)(?::([a-z]+))?\}")
PREPARATIONS = {
    "initialised": ["init"],
    "customer": [
        "init",
        "tenant add acme",
        "key create local://left/a",
        "key create local://right/b",
        "policy create --tenant acme --name main --workload mailbox --key local://left/a --key local://right/b",
        "mailbox add ann@acme.example --tenant acme",
    ],
}


@dataclass
class Command:
    """Hold one command with what is expected of it."""

    line: str
    out: list[str] = field(default_factory=list)
    err: list[str] = field(default_factory=list)
    exit: int = 0


@dataclass
class Script:
    """Hold one transcript."""

    home: str
    env: dict[str, str]
    commands: list[Command]


@pytest.fixture(autouse=True)
def _private() -> Iterator[None]:
    old = os.umask(0o077)
    yield
    os.umask(old)


@pytest.fixture(scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return prepared homes, each made once: a copy of it takes a hundredth of the time."""
    made: dict[str, Path] = {}

    def prepared(kind: str) -> Path:
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(kind) / "home"
            for line in PREPARATIONS[kind]:
                assert 0 == run_here([*shlex.split(line), "--home", str(made[kind])])[0]
        return made[kind]

    return prepared


def run_here(arguments: list[str]) -> tuple[int, str, str]:
    """Run a command in this process; return its exit code, output and error output."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(arguments)
    return code, out.getvalue(), err.getvalue()


def run_in_shell(line: str) -> tuple[int, str, str]:
    """Run a command line in a shell that finds the installed program."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, check=False, env={**os.environ, "PATH": path}
    )
    return done.returncode, done.stdout, done.stderr


def lines(text: str) -> list[str]:
    """Return the lines that count."""
    return [line for line in text.splitlines() if line]


def read(path: Path) -> Script:
    """Parse a transcript."""
    script = Script("empty", {}, [])
    for line in lines(path.read_text()):
        if line.startswith("$ "):
            script.commands.append(Command(line[2:]))
        elif script.commands:
            expect(script.commands[-1], line)
        else:
            direct(script, line)
    return script


def direct(script: Script, line: str) -> None:
    """Follow a directive; anything else above the first command is a comment."""
    word, _, value = line.partition(": ")
    if word == "home":
        script.home = value
    elif word == "env":
        name, _, setting = value.partition("=")
        script.env[name] = setting


def expect(command: Command, line: str) -> None:
    """Add a line to what is expected of a command."""
    if found := re.fullmatch(r"\[exit (\d+)\]", line):
        command.exit = int(found[1])
    elif line.startswith("! "):
        command.err.append(line[2:])
    else:
        command.out.append(line)


class Names:
    """Keep what named placeholders matched."""

    def __init__(self, here: Path) -> None:
        self._here = str(here)
        self._known: dict[str, str] = {}

    def fill(self, line: str) -> str:
        """Put what is known into a command."""
        return PLACE.sub(lambda place: self._known[place[2]], line.replace("{here}", self._here))

    def settle(self, expected: list[str], actual: list[str]) -> list[str]:
        """Return what was expected with its placeholders filled from what came, where that fits."""
        pairs = zip(expected, actual + [""] * len(expected), strict=False)
        return [self._settle(line.replace("{here}", self._here), came) for line, came in pairs]

    def _settle(self, line: str, came: str) -> str:
        found = re.fullmatch(self._pattern(line), came)
        if found is None:
            return line
        self._known.update(found.groupdict())
        return came

    def _pattern(self, line: str) -> str:
        parts, end, seen = [], 0, set[str]()
        for place in PLACE.finditer(line):
            parts.append(re.escape(line[end : place.start()]))
            shape, name = SHAPES[place[1]], place[2]
            if name in self._known or name in seen:
                shape = re.escape(self._known.get(name, "")) or f"(?P={name})"
            elif name:
                shape = f"(?P<{name}>{shape})"
                seen.add(name)
            parts.append(shape)
            end = place.end()
        return "".join(parts) + re.escape(line[end:])


def execute(line: str) -> tuple[int, str, str]:
    """Run a command line where it belongs."""
    words = shlex.split(line)
    in_process = words[0] == "twinlock" and not re.search(r"[|<>&;]", line)
    return run_here(words[1:]) if in_process else run_in_shell(line)


@pytest.mark.parametrize("path", sorted(HERE.glob("*.txt")), ids=lambda path: path.stem)
def test_transcript(path: Path, homes: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command of the script says and returns exactly what stands there."""
    script, names = read(path), Names(tmp_path)
    if script.home != "empty":
        shutil.copytree(homes(script.home), tmp_path / "home")
    for name, value in {**script.env, "TWINLOCK_HOME": str(tmp_path / "home"), "SAMPLES": str(SAMPLES)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    for command in script.commands:
        code, out, err = execute(os.path.expandvars(names.fill(command.line)))
        came = {"out": lines(out), "err": lines(err), "exit": code}
        expected = {
            "out": names.settle(command.out, lines(out)),
            "err": names.settle(command.err, lines(err)),
            "exit": command.exit,
        }

        assert expected == came, command.line
