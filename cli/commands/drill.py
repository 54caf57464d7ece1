"""`twinlock drill`: what would happen if a policy's keys were revoked, silent or lost, tried out on keys of a sandbox.

Nothing real is touched: the real database is read, no custodian of the real home is opened and no vault is called.
"""

import asyncio
import time
from typing import Any

import typer

from cli import home
from cli.command import homeless
from cli.drill.findings import Measured, Real, measure, read_real
from cli.drill.sandbox import open_sandbox
from cli.drill.scenario import Scenario, of_mode
from cli.drill.timeline import Reader as Asking
from cli.options import PolicyName
from cli.output import Failure, Result, Table, fields
from cli.settings import Settings
from cli.wiring import clock_for, open_current
from twinlock.custody.fate import revoked_bound_seconds
from twinlock.custody.policies import Policy, find_policy

_MOST_CONTAINERS = 3

_BY_REQUEST = "two approvers sign a recovery onto new root keys: twinlock recovery request"
_BY_ITSELF = {
    Scenario.REVOKE: "by itself, as soon as the customer enables one of the keys",
    Scenario.OUTAGE: "by itself, as soon as one of the vaults answers",
}
_SHOWN = ("possible", "lacks", "approvers", "availability_key", "measured_seconds")

noun = typer.Typer(help="What would happen if; with fresh keys in a sandbox.")


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.add_typer(noun, name="drill")


@homeless(noun, "revoke")
def revoke(settings: Settings, timeout: float, shows: bool, policy: PolicyName) -> Result:
    """Show what happens when the customer disables both root keys."""
    return _drill(settings, timeout, policy, Scenario.REVOKE)


@homeless(noun, "outage")
def outage(settings: Settings, timeout: float, shows: bool, policy: PolicyName) -> Result:
    """Show what happens when neither of the two vaults answers any more."""
    return _drill(settings, timeout, policy, Scenario.OUTAGE)


@homeless(noun, "lose-both")
def lose_both(settings: Settings, timeout: float, shows: bool, policy: PolicyName) -> Result:
    """Show what happens when both root keys are deleted, and whether that could be recovered from."""
    return _drill(settings, timeout, policy, Scenario.LOSE_BOTH)


def _drill(settings: Settings, timeout: float, name: str, scenario: Scenario) -> Result:
    with asyncio.Runner() as runner:
        return runner.run(_run(settings, timeout, name, scenario))


async def _run(settings: Settings, timeout: float, name: str, scenario: Scenario) -> Result:
    began = time.monotonic()
    real, custody = await _real(settings, name), settings.custody
    bound = scenario.at_most_seconds(custody, real.policy.workload)
    count = min(max(real.containers, 1), _MOST_CONTAINERS)
    async with open_sandbox(settings, real.policy, count, timeout) as sandbox:
        measured = await measure(scenario, sandbox, custody, real.policy.mode, bound)
    document = {
        "policy": str(real.policy),
        "scenario": scenario.value,
        "workload": real.policy.workload.value,
        "mode": real.policy.mode.value,
        "containers": real.containers,
        "users": _reader(measured.users, scenario, real, bound, custody.keep_seconds),
        "service": _reader(measured.service, scenario, real, bound, custody.keep_seconds),
        "kill_switch_seconds": revoked_bound_seconds(custody),
        "recovery": _recovery(scenario, real, measured),
        "sandbox": _sandbox(measured, time.monotonic() - began),
    }
    failure = _failure(measured, scenario, real.policy, bound - custody.keep_seconds)
    return Result(document, _view(document), failure)


def _sandbox(measured: Measured, took: float) -> dict[str, Any]:
    return {
        "containers": measured.containers,
        "clock": "controlled",
        "step_seconds": round(measured.resolution, 1),
        "took_seconds": round(took, 1),
    }


async def _real(settings: Settings, name: str) -> Real:
    if not settings.is_fleet:
        home.check(settings.home)
    clock = clock_for(settings)
    async with open_current(settings, clock) as store, store.read() as reader:
        return await read_real(reader, await find_policy(reader, name), clock.now())


def _reader(asking: Asking, scenario: Scenario, real: Real, bound: float, keep: float) -> dict[str, Any]:
    """Say whether a reader ends up locked out; callers may hold a key for a while after the last one was given out."""
    locked_out = scenario.refuses(asking.initiator.kind, real.policy.mode, real.availability)
    refused = asking.refused_after
    return {
        "locked_out": locked_out,
        "measured_seconds": None if refused is None else round(refused + keep, 1),
        "at_most_seconds": bound if locked_out else None,
    }


def _recovery(scenario: Scenario, real: Real, measured: Measured) -> dict[str, Any]:
    """Say what recovery takes: one root key that answers again, or, where both are lost, the availability key."""
    lost = scenario is Scenario.LOSE_BOTH
    lacks = list(real.lacks) if lost else []
    return {
        "how": _BY_REQUEST if lost else _BY_ITSELF[scenario],
        "possible": not lacks,
        "lacks": lacks,
        "approvers": real.approvers,
        "availability_key": real.availability.value,
        "measured_seconds": None if measured.healed_after is None else round(measured.healed_after, 1),
    }


def _view(document: dict[str, Any]) -> list[str | Table]:
    recovery = document["recovery"]
    readers = [(who, *document[who].values()) for who in ("users", "service")]
    return [
        f"{document['scenario']} of {document['policy']}: it would hit {document['containers']} containers",
        Table(("who", "locked_out", "measured_seconds", "at_most_seconds"), readers),
        "",
        fields({"recovery": recovery["how"], **{name: recovery[name] for name in _SHOWN}}),
        "",
        "measured in a sandbox with fresh keys, on a clock that the drill moves; nothing real was touched",
    ]


def _failure(measured: Measured, scenario: Scenario, policy: Policy, most: float) -> Failure | None:
    """Tell where the sandbox did something else than the table and the settings say: then one of them is wrong."""
    for asking in (measured.users, measured.service):
        refuses = scenario.refuses(asking.initiator.kind, policy.mode, of_mode(policy.mode))
        after = asking.refused_after
        if refuses is (after is None) or (after is not None and after > most + measured.resolution):
            return Failure(
                f"the sandbox did not do what the settings say: {asking.initiator.kind} refused after {after} s",
                hint="don't trust the numbers above; tell us the settings and this line",
            )
    return None
