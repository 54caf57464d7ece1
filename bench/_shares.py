"""Whose processor time it was: the servers and workers that this process started, as Linux counts them in /proc."""

import os
import re
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

CORES = os.cpu_count() or 1
OTHERS = "others on this machine"
POSTGRES, RABBIT = "PostgreSQL", "RabbitMQ"
_TICKS = os.sysconf("SC_CLK_TCK")
_FULL, _BUSY = 0.9, 0.8  # of all cores, and of one: from there on it is what is missing
_SERVERS = {"postgres": POSTGRES, "rabbitmq": RABBIT, "epmd": RABBIT}

Spent = Mapping[tuple[str, int], float]  # seconds of processor time by part and process


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Hold what was spent until now, by what we have started and by the whole machine."""

    at: float
    spent: Spent
    machine: float

    @classmethod
    def take(cls) -> "Snapshot":
        """Look."""
        parents, ticks = {}, {}
        for pid, parent, spent in _processes():
            parents[pid], ticks[pid] = parent, spent
        found: defaultdict[tuple[str, int], float] = defaultdict(float)
        for pid, spent in ticks.items():
            child = _child_of_ours(pid, parents)
            if child is not None:
                found[_part(child), child] += spent / _TICKS
        return cls(time.perf_counter(), found, _machine())


@dataclass(frozen=True, slots=True)
class Shares:
    """Hold how many cores each part kept busy between two looks, the busiest worker, and the machine."""

    seconds: float
    cores: Mapping[str, float]
    busiest: tuple[str, float]
    machine: float

    @classmethod
    def between(cls, before: Snapshot, after: Snapshot) -> "Shares":
        """Compare two looks."""
        seconds = after.at - before.at
        each = {key: (spent - before.spent.get(key, 0.0)) / seconds for key, spent in after.spent.items()}
        cores: defaultdict[str, float] = defaultdict(float)
        for (part, _), share in each.items():
            cores[part] += share
        machine = (after.machine - before.machine) / seconds
        cores[OTHERS] = max(0.0, machine - sum(cores.values()))
        workers = {part: share for (part, _), share in each.items() if part not in (POSTGRES, RABBIT)}
        return cls(seconds, cores, max(workers.items(), key=lambda item: item[1], default=("", 0.0)), machine)

    def __str__(self) -> str:
        largest = sorted(self.cores.items(), key=lambda item: -item[1])
        return ", ".join(f"{part} {share:.2f}" for part, share in largest if share >= 0.01)

    @property
    def bottleneck(self) -> str:
        """Name what more of would make it faster."""
        part, share = max(self.cores.items(), key=lambda item: item[1])
        if self.machine >= _FULL * CORES:
            return f"the machine's {CORES} cores, of which {part} takes most ({share:.2f})"
        if self.busiest[1] >= _BUSY:
            return f"the one core that a process of {self.busiest[0]} can use"
        part, share = max((each for each in self.cores.items() if each[0] != OTHERS), key=lambda item: item[1])
        return f"waiting, for commits and round trips; {part} is busiest ({share:.2f} cores)"


def _processes() -> Iterator[tuple[int, int, int]]:
    """Yield the number of each process, its parent's, and its ticks, those of children that have ended included."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        yield int(folder.name), int(stat[1]), sum(map(int, stat[11:15]))


def _child_of_ours(pid: int, parents: Mapping[int, int]) -> int | None:
    while pid in parents:
        if parents[pid] == os.getpid():
            return pid
        pid = parents[pid]
    return None


def _part(pid: int) -> str:
    """Name what a child of ours runs."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return OTHERS
    if worker := re.search(r"worker run (\w+)", command):
        return worker[1]
    return next((name for word, name in _SERVERS.items() if word in command), OTHERS)


def _machine() -> float:
    user, nice, system, _idle, _wait, irq, softirq, *_ = map(int, Path("/proc/stat").read_text().split()[1:11])
    return (user + nice + system + irq + softirq) / _TICKS
