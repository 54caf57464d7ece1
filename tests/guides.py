"""Guides of `docs/` as tests type them: blocks with a name are files, `sh` is typed, `text` is what that prints."""

import asyncio
import os
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.servers.rabbitmq import RabbitNode

BLOCK = re.compile(r"^```(?P<kind>\w+)(?: (?P<name>\S+))?\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Step:
    """Hold one command of a guide, with what it prints where the guide says so."""

    line: str
    prints: str | None = None


def steps(guide: Path) -> list[Step]:
    """Return a guide's commands in their order."""
    found: list[Step] = []
    for block in BLOCK.finditer(guide.read_text()):
        if block["kind"] == "sh":
            found += [Step(line) for line in block["text"].splitlines()]
        elif block["kind"] == "text":
            found[-1] = Step(found[-1].line, block["text"])
    return found


def programs(guide: Path) -> set[str]:
    """Return the names of a guide's programs."""
    return {block["name"] for block in BLOCK.finditer(guide.read_text()) if block["kind"] == "python"}


def write_files(guide: Path, folder: Path) -> None:
    """Write every block that has a name."""
    for block in BLOCK.finditer(guide.read_text()):
        if block["name"]:
            (folder / block["name"]).write_text(block["text"])


async def execute(line: str, rabbit: "RabbitNode", folder: Path) -> str:
    """Run a command as it stands in a guide, and return what it prints."""
    if line.startswith("rabbitmqctl "):
        words = shlex.split(os.path.expandvars(line))
        return await asyncio.to_thread(rabbit.ctl, *words[1:])
    done = await asyncio.to_thread(
        subprocess.run, ["bash", "-c", line], cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )

    assert 0 == done.returncode, f"{line}\n{done.stdout}{done.stderr}"

    return done.stdout
