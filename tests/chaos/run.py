"""A run: rounds of faults while tenants work, and then the end, where everything has to hold."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

import pytest

from tests.chaos.acts import Acts
from tests.chaos.ending import Ending
from tests.chaos.faults import FAULTS, Fault
from tests.chaos.kept import Kept
from tests.chaos.losers import Losers
from tests.chaos.report import Report
from tests.chaos.secrecy import look_everywhere
from tests.chaos.stage import Stage, staged
from tests.faults.searching import record_keys

TENANTS = ("acme", "umbra")


@dataclass(frozen=True)
class Plan:
    """Say how large a run is, and when it ends."""

    seed: int
    nodes: int = 3
    each: int = 3  # replicas of each worker
    tenants: int = 2
    acts: int = 2  # of tenants, after each fault begins
    faults: Sequence[Fault] = FAULTS
    seconds: float = 360.0  # since the beginning, after which no round begins
    rounds: int = 1000


def rounds(faults: Sequence[Fault], order: Random) -> Iterator[list[Fault]]:
    """Draw rounds: faults of different places together, and each fault once before any comes again."""
    while True:
        left = order.sample(faults, len(faults))
        while left:
            chosen: list[Fault] = []
            taken: set[str] = set()
            for fault in list(left):
                if len(chosen) < 3 and taken.isdisjoint(fault.places):
                    chosen.append(fault)
                    taken |= fault.places
                    left.remove(fault)
            yield chosen


def run(plan: Plan, folder: Path, report: Report) -> None:
    """Run a plan and tell what comes of it; the same seed draws the same faults and acts."""
    with pytest.MonkeyPatch.context() as patch, staged(folder, plan.nodes, plan.each) as stage:
        made, kept = record_keys(patch), Kept(stage)
        tenants = Acts(stage, drawing("acts", plan), list(TENANTS[: plan.tenants]))
        losers = Losers(stage, tenants)
        report.say("servers are there")
        stage.staff()
        report.say(f"{len(stage.fleet.replicas)} processes are ready")
        tenants.begin()
        losers.begin()
        kept.learn()
        report.say("tenants are there")
        try:
            _strike(plan, stage, tenants, losers, report)
            tenants.settle()
            losers.finish()
            for name in tenants.names:
                tenants.deny_well(name)
                tenants.allow(name)
        except AssertionError as broken:
            report.breaks("under faults", broken)
        Ending(stage, tenants, losers, report, partial(look_everywhere, stage, made, kept)).look()
        report.say(
            f"{tenants.commands.done} commands done, {tenants.commands.not_done} not, {tenants.reads} reads alike"
        )


def _strike(plan: Plan, stage: Stage, tenants: Acts, losers: Losers, report: Report) -> None:
    order = drawing("faults", plan)
    for number, faults in enumerate(rounds(plan.faults, order)):
        if number >= plan.rounds or report.seconds > plan.seconds:
            return
        with ExitStack() as stack:
            for fault in faults:
                report.begins(fault, stack.enter_context(fault.strike(stage, order)))
                for _ in range(plan.acts):
                    tenants.act()
                losers.go_on()
        stage.staff()
        tenants.insist("mailbox", "export", f"mover@{tenants.names[0]}.example", str(stage.folder / f"round-{number}"))
        report.over(faults)
        report.say(f"round {number + 1} is survived")


def drawing(what: str, plan: Plan) -> Random:
    """Return what draws for one part of a plan."""
    return Random(f"{what} {plan.seed}")  # noqa: S311  # to be repeated, not to be secret
