"""Where the story is told: it types commands, prints what they prove, and keeps the table of the end.

What people read goes to standard output; progress and complaints go to standard error, as with every command.
"""

import contextlib
import io
import json
import os
import secrets
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import IO, Any

from rich.console import Console

from cli.command import Flags
from cli.demo.cast import Cast
from cli.demo.servers import Customer, OpenBaoVaults
from cli.demo.vaults import EmbeddedVaults, Stopped, Vaults
from cli.entry import INTERRUPTED
from cli.home import SETTINGS
from cli.output import Result, Table, emit
from cli.progress import Shows
from cli.settings import PREFIX, Settings

Twinlock = Callable[[list[str], Flags], int]

COLUMNS = ("step", "shown", "result", "seconds")


@contextlib.contextmanager
def _at_home(home: Path) -> Iterator[None]:
    own = {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}
    try:
        for name in own:
            del os.environ[name]
        os.environ[f"{PREFIX}HOME"] = str(home)
        yield
    finally:
        os.environ.pop(f"{PREFIX}HOME", None)
        os.environ.update(own)


@dataclass(slots=True)
class Step:
    """Hold one line of the table; it holds while nothing speaks against it."""

    title: str
    shown: str = "-"
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Stage:
    """Run commands in a folder, with a home in it, as a person would; or, with its settings, on a fleet.

    A fleet goes on, and every telling there has a tenant and keys of its own; those of `customer` are on servers.
    """

    def __init__(
        self, folder: Path, twinlock: Twinlock, fleet: Settings | None = None, customer: Customer | None = None
    ) -> None:
        self.folder = folder
        self.home = fleet.home if fleet else folder / "home"
        self.is_fleet = fleet is not None
        self.stored = [self.home]
        if fleet and fleet.objects_folder is not None:
            self.stored.append(fleet.objects_folder)
        mark = f"-{secrets.token_hex(4)}" if fleet else ""
        self.vaults: Vaults = EmbeddedVaults(mark, self.twinlock)
        if customer:
            self.vaults = OpenBaoVaults(mark, customer, self._typed)
        self.cast = Cast(f"contoso{mark}", self.vaults.places, self.vaults.mark)
        self.steps: list[Step] = []
        self.folders = (f"sandbox-out/{number}" for number in count(1))  # to export into
        self._twinlock = twinlock
        self._console = Console(file=sys.stdout, highlight=False)

    @contextlib.contextmanager
    def set(self) -> Iterator[None]:
        """Work in the folder, and let no setting of the person's own lead to another home or database."""
        if self.is_fleet:
            with contextlib.chdir(self.folder):
                yield
            return
        with contextlib.chdir(self.folder), _at_home(self.home):
            yield

    @contextlib.contextmanager
    def sandbox(self, settings: str = "") -> Iterator[None]:
        """Work in another home beside the first, with settings of its own where it is new."""
        home = self.folder / "sandbox"
        if settings:
            home.mkdir()
            (home / SETTINGS).write_text(settings)
        with _at_home(home):
            yield

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Tell one step, and note how it went; one that stops the story is noted too."""
        self.steps.append(step := Step(title))
        self._print(f"\n{len(self.steps)}  {title}", "bold")
        began = time.monotonic()
        try:
            yield step
        except Stopped as stopped:
            step.faults.append(str(stopped))
            raise
        finally:
            step.seconds = time.monotonic() - began

    def twinlock(self, line: str) -> Any:
        """Type a command that has to succeed; return its document."""
        self._typed(f"twinlock {line}")
        code, out = self._run(line)
        if code != 0:
            raise Stopped(f"`twinlock {line}` ended with exit code {code}")
        return json.loads(out)

    def refused(self, line: str) -> str:
        """Type a command that has to be refused; return what it says, or nothing where it succeeds."""
        self._typed(f"twinlock {line}")
        with contextlib.redirect_stderr(io.StringIO()) as err:
            code, _ = self._run(line)
        said = err.getvalue().splitlines()
        for each in [*said, f"[exit code {code}]"]:
            self._print(f"   {each}")
        return said[0] if code == 1 and said else ""

    @contextlib.contextmanager
    def reading(self, line: str) -> Iterator[IO[bytes]]:
        """Type a command that has to succeed, in a process of its own, and lend its output while it is written."""
        self._typed(f"twinlock {line}")
        command = [sys.executable, "-c", "from cli.entry import main; main()", *shlex.split(line)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:  # noqa: S603  # what the story types
            assert process.stdout is not None  # noqa: S101  # narrows the type
            yield process.stdout
        if process.returncode != 0:
            raise Stopped(f"`twinlock {line}` ended with exit code {process.returncode}")

    def tell(self, text: str) -> None:
        """Say something about the whole."""
        self._print(text)

    def say(self, text: str) -> None:
        """Explain a step in a line."""
        self._print(f"   {text}")

    def prove(self, promise: str, fault: str = "") -> None:
        """Say that a promise held, or what speaks against it; the story goes on, and fails at its end."""
        if fault:
            self.steps[-1].faults.append(fault)
            self._print(f"   FAILED: {promise}: {fault}", "bold red")
        else:
            self._print(f"   ok: {promise}", "green")

    def table(self) -> None:
        """Print what was shown."""
        rows = [
            (step.title, step.shown, "FAILED" if step.faults else "ok", round(step.seconds, 1)) for step in self.steps
        ]
        sys.stdout.write("\n")
        emit(Result({}, [Table(COLUMNS, rows)]), as_json=False)

    def _run(self, line: str) -> tuple[int, str]:
        with contextlib.redirect_stdout(io.StringIO()) as out:
            code = self._twinlock([*shlex.split(line), "--json"], Flags(progress=Shows.LINES))
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        return code, out.getvalue()

    def _typed(self, line: str) -> None:
        self._print(f"   $ {line}", "cyan")

    def _print(self, text: str, style: str = "") -> None:
        self._console.print(text, style=style or None, markup=False, soft_wrap=True)
        sys.stdout.flush()
