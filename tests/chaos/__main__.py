"""`make chaos`: one run, its seed, and a table of faults; the exit code says whether everything held."""

import argparse
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.chaos.report import Report
from tests.chaos.run import Plan, run

_REST = 210.0  # seconds from the last round on: what is on its way, the end, and all that is looked at


def main() -> int:
    """Run, and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--minutes", type=float, default=6.0, help="after which no more faults begin")
    parser.add_argument("--nodes", type=int, default=3, help="of the broker")
    parser.add_argument("--each", type=int, default=3, help="replicas of each worker")
    given = parser.parse_args()
    plan = Plan(given.seed, given.nodes, given.each, seconds=given.minutes * 60)
    _say(f"seed {plan.seed}: {plan.nodes} broker nodes, {plan.each} replicas of each worker")
    folder = Path(tempfile.mkdtemp(prefix="twinlock-chaos-"))
    report = Report(_say)
    with _ended_after(plan.seconds + _REST):
        try:
            run(plan, folder, report)
        except Exception as broken:  # noqa: BLE001  # whatever ends a run is told, with what it had come to
            report.breaks("the run itself", broken)
    _say("\n".join(["", *report.table(), ""]))
    _say(f"seed {plan.seed}: " + (f"{len(report.broken)} things did not hold" if report.broken else "everything held"))
    if report.broken:
        _say(f"logs of all processes are in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


@contextmanager
def _ended_after(seconds: float) -> Iterator[None]:
    """Have the block raise `TimeoutError` when it takes longer: what it has started ends with it."""

    def late(_number: int, _frame: object) -> None:
        raise TimeoutError(f"not over after {seconds:.0f} s")

    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
