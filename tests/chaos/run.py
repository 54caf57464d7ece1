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
from tests.chaos.episodes import Episodes
from tests.chaos.faults import FAULTS, Fault
from tests.chaos.kept import Kept
from tests.chaos.losers import Losers
from tests.chaos.portal import Portal
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
        losers, portal, episodes = Losers(stage, tenants), Portal(stage, tenants), Episodes(stage, tenants)
        stage.fill = portal.fill
        report.say("servers are there")
        stage.staff()
        report.say(f"{len(stage.fleet.replicas)} processes are ready")
        tenants.begin()
        losers.begin()
        portal.begin()
        kept.learn()
        report.say("tenants are there")
        try:
            _strike(plan, stage, tenants, losers, episodes, report)
            tenants.settle()
            losers.finish()
            portal.settle()
            for name in tenants.names:
                tenants.deny_well(name)
                tenants.allow_well(name)
        except AssertionError as broken:
            report.breaks("under faults", broken)
        Ending(stage, tenants, losers, portal, report, partial(look_everywhere, stage, made, kept)).look()
        report.say(
            f"{tenants.commands.done} commands done, {tenants.commands.not_done} not, {tenants.reads} reads alike"
        )


def _strike(plan: Plan, stage: Stage, tenants: Acts, losers: Losers, episodes: Episodes, report: Report) -> None:
    order = drawing("faults", plan)
    for number, drawn in enumerate(rounds(plan.faults, order)):
        if number >= plan.rounds or report.seconds > plan.seconds:
            return
        # What a vault has to have told of takes until it is alone: each kind of trouble goes on for so long once.
        faults = sorted(drawn, key=lambda fault: fault.place != "vault" or fault.name in report.survived)
        lasts = faults[0].place == "vault"
        if lasts:
            episodes.well()
        with ExitStack() as stack:
            for fault in faults:
                report.begins(fault, stack.enter_context(fault.strike(stage, order)))
                if fault is faults[0] and lasts:
                    stack.enter_context(episodes.lasting())
                for _ in range(plan.acts):
                    tenants.act()
                losers.go_on()
        stage.staff()
        if lasts:
            episodes.well()
        tenants.insist("mailbox", "export", f"mover@{tenants.names[0]}.example", str(stage.folder / f"round-{number}"))
        report.over(faults)
        report.say(f"round {number + 1} is survived" + (", and told" if lasts else ""))


def drawing(what: str, plan: Plan) -> Random:
    """Return what draws for one part of a plan."""
    return Random(f"{what} {plan.seed}")  # noqa: S311  # to be repeated, not to be secret
