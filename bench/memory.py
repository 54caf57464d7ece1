"""Measure the peak memory of the commands that carry mail, each a process of its own, and how fast an import is.

One mailbox has many mails (their number may be given as an argument), another one mail that is larger than memory may
grow, and then several are re-encrypted side by side. Every command has to stay below the bound; what comes out has to
be as large as what went in.
"""

import base64
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench._sizes import sizes

BOUND = 200  # MB
MIB = 1024 * 1024
MAILS = 20_000
LARGE = 300 * MIB
CROWD = 6  # mailboxes: more than a worker takes at a time
PIECE = 57 * 1024  # a multiple of what one line of base64 holds

_HEAD = b"From: a@acme.example\r\nTo: b@acme.example\r\nSubject: mail %d\r\nMessage-ID: <%d@acme.example>\r\n\r\n"


def mail(number: int, size: int) -> Iterator[bytes]:
    """Yield a mail of about this size, never held whole."""
    yield _HEAD % (number, number)
    for start in range(0, size, PIECE):
        # base64 makes four bytes of three, and encodebytes breaks the lines
        yield base64.encodebytes(os.urandom(max(1, min(PIECE, size - start) * 3 // 4)))


def write_mbox(path: Path, wanted: list[int]) -> int:
    """Write mails of these sizes and return how many bytes they came to."""
    with path.open("wb") as file:
        for number, size in enumerate(wanted):
            file.write(b"From a@acme.example Thu Jan  1 00:00:00 2026\n")
            file.writelines(mail(number, size))
            file.write(b"\n")
    return path.stat().st_size


@dataclass(frozen=True, slots=True)
class Ran:
    """Say what a command printed, how long it ran and how much memory it had at its peak."""

    document: dict[str, Any]
    seconds: float
    megabytes: float


class Commands:
    """Run commands on one home and remember those that took too much memory."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self.exceeded: list[str] = []

    def run(self, *words: str) -> Ran:
        """Run a command; it has to succeed."""
        program = Path(sys.executable).with_name("twinlock")
        begin = time.perf_counter()
        with subprocess.Popen([program, "--home", self._home, *words, "--json"], stdout=subprocess.PIPE) as process:
            output = process.stdout.read() if process.stdout else b""
            _, status, usage = os.wait4(process.pid, 0)  # the usage of this process alone, as the kernel counted it
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"twinlock {' '.join(words)} failed with {process.returncode}")
        return Ran(json.loads(output), time.perf_counter() - begin, usage.ru_maxrss / 1024)

    def measure(self, what: str, *words: str) -> Ran:
        """Run a command, print what it took, and note if that was too much."""
        ran = self.run(*words)
        print(
            f"{what:12} {' '.join(words[:2]):16} {ran.seconds:7.1f} s {ran.megabytes:7.0f} MB at the peak", flush=True
        )
        if ran.megabytes > BOUND:
            self.exceeded.append(f"{what}: {' '.join(words[:2])}")
        return ran

    def prepare(self) -> None:
        """Make a home with a tenant, two root keys and a policy."""
        self.run("init")
        self.run("tenant", "add", "acme")
        keys = [f"local://{vault}/root" for vault in ("one", "two")]
        for key in keys:
            self.run("key", "create", key)
        named = ("--tenant", "acme", "--name", "main", "--workload", "mailbox")
        self.run("policy", "create", *named, "--key", keys[0], "--key", keys[1])

    def carry(self, what: str, address: str, source: Path, size: int) -> None:
        """Take a source through its whole life: in, under the policy, under another mailbox key, and out."""
        self.run("mailbox", "add", address, "--tenant", "acme")
        brought = self.measure(what, "mailbox", "import", address, str(source))
        count, held = brought.document["imported"], brought.document["bytes"]
        print(f"{what:12} imported {count} at {size / MIB / brought.seconds:.0f} MB/s, {count / brought.seconds:.0f}/s")
        self.measure(what, "policy", "assign", "acme/main", "--mailbox", address, "--timeout", "900")
        self.measure(what, "mailbox", "move", address, "--timeout", "900")
        target = source.with_suffix(".out")
        taken = self.measure(what, "mailbox", "export", address, str(target), "--format", "mbox")
        if (taken.document["exported"], taken.document["bytes"]) != (count, held):
            raise SystemExit(f"{what}: {held} bytes went in, {taken.document['bytes']} came out")
        target.unlink()

    def crowd(self, source: Path) -> None:
        """Re-encrypt several mailboxes at once."""
        addresses = [f"crowd-{number}@acme.example" for number in range(CROWD)]
        for address in addresses:
            self.run("mailbox", "add", address, "--tenant", "acme")
            self.run("mailbox", "import", address, str(source))
        chosen = [word for address in addresses for word in ("--mailbox", address)]
        self.measure(f"{CROWD} mailboxes", "policy", "assign", "acme/main", *chosen, "--timeout", "900")


def main() -> int:
    """Measure both mailboxes and fail if any command exceeded the bound."""
    mails = int(sys.argv[1]) if len(sys.argv) > 1 else MAILS
    with tempfile.TemporaryDirectory(prefix="twinlock-bench-") as name:
        folder = Path(name)
        commands = Commands(folder / "home")
        commands.prepare()
        for what, wanted in ((f"{mails} mails", sizes(mails)), ("one mail", [LARGE])):
            source = folder / "source.mbox"
            size = write_mbox(source, wanted)
            commands.carry(what, f"mailbox-{len(wanted)}@acme.example", source, size)
            source.unlink()
        write_mbox(source, sizes(mails // CROWD))
        commands.crowd(source)
    print(f"above {BOUND} MB: {', '.join(commands.exceeded) or 'none'}")
    return int(bool(commands.exceeded))


if __name__ == "__main__":
    sys.exit(main())
