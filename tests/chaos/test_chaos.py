"""The short form of `make chaos`: one of each worker, one broker node, a few faults of different kinds."""

from itertools import islice
from pathlib import Path

import pytest

from tests.chaos.faults import FAULTS
from tests.chaos.report import Report
from tests.chaos.run import Plan, drawing, rounds, run

# One for each place, and every one over as soon as it is begun or found out: the long form has them all.
_SHORT = ("workers killed", "broker node killed", "forged fact", "database killed", "vault says 503", "clocks stepped")


@pytest.mark.servers
@pytest.mark.timeout(900)
def test_short(tmp_path: Path) -> None:
    """While workers, broker, database, vaults and clocks fail, nothing is lost, double, open, untold or readable."""
    said: list[str] = []
    faults = [fault for fault in FAULTS if fault.name in _SHORT]
    plan = Plan(seed=6, nodes=1, each=1, tenants=1, acts=2, faults=faults, rounds=2, seconds=600)
    report = Report(said.append)
    run(plan, tmp_path, report)

    assert [] == report.broken, said
    assert dict.fromkeys(_SHORT, 1) == report.injected == report.survived


def test_repeatable() -> None:
    """The same seed draws the same rounds, another one others; each fault strikes once before any comes again."""
    drawn = [
        [[fault.name for fault in chosen] for chosen in islice(rounds(FAULTS, drawing("faults", Plan(seed))), 40)]
        for seed in (7, 7, 8)
    ]
    first = [name for chosen in drawn[0] for name in chosen][: len(FAULTS)]

    assert drawn[0] == drawn[1] != drawn[2]
    assert {fault.name for fault in FAULTS} == set(first)
