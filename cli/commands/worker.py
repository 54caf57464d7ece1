"""`twinlock worker`: run workers until told to stop, and see whether somebody does."""

import asyncio
from typing import Annotated

import typer

from cli.address import parse_address
from cli.command import homeless
from cli.commands import enrolment
from cli.failures import UsageFault
from cli.output import Failure, Result
from cli.settings import Settings
from cli.wiring import open_current
from events.home_lock import WorkerRunLock
from twinlock.custody.audit import sealing
from workers.roster import ROSTER

noun = typer.Typer(help="The workers.")

WORKERS = tuple(ROSTER)


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    enrolment.register(noun)
    app.add_typer(noun, name="worker")


@homeless(noun, "run")
def run(
    settings: Settings,
    timeout: float,
    shows: bool,
    name: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help=", ".join(WORKERS))] = None,
    everything: Annotated[bool, typer.Option("--all", help="All workers.")] = False,
    health: Annotated[
        str | None, typer.Option("--health", metavar="HOST:PORT", help="Answer /livez, /readyz and /metrics there.")
    ] = None,
) -> Result:
    """Run workers until SIGTERM or SIGINT, then finish what runs."""
    from cli.serving import run_embedded, run_fleet  # its servers' libraries would slow every other command down

    names, at = _chosen(name or [], everything), parse_address(health) if health else None
    with asyncio.Runner() as runner:
        runner.run(run_fleet(settings, names, at) if settings.is_fleet else run_embedded(settings, names, at))
    return Result({"workers": list(names), "stopped": True}, ["drained and stopped"])


def _chosen(names: list[str], everything: bool) -> tuple[str, ...]:
    if bool(names) == everything:
        raise UsageFault("it is not said which workers", hint="name them, or use --all")
    for each in names:
        _check(each)
    return tuple(dict.fromkeys(names)) or WORKERS


@homeless(noun, "check")
def check(
    settings: Settings,
    timeout: float,
    shows: bool,
    name: Annotated[str, typer.Argument(metavar="NAME", help=", ".join(WORKERS))],
) -> Result:
    """Say whether a worker runs somewhere, as a health probe."""
    _check(name)
    if settings.is_fleet and not ROSTER[name].listens:
        with asyncio.Runner() as runner:
            count = runner.run(_sealers(settings, timeout))
    elif settings.is_fleet:
        from cli.presence import consumers_of  # the broker's library, for a fleet alone

        with asyncio.Runner() as runner:
            count = runner.run(consumers_of(settings, name, timeout))
    else:
        count = int(_runs_here(settings))
    start = f"worker run {name}" if settings.is_fleet else "worker run --all"
    failure = None if count else Failure(f"{name} is not running", f"start it: twinlock {start}")
    document = {"worker": name, "running": bool(count), "replicas": count}
    return Result(document, [f"{name} is running"] if count else (), failure)


async def _sealers(settings: Settings, timeout: float) -> int:
    # Nothing comes to it from the broker; of its replicas the one that has the lease is seen.
    async with asyncio.timeout(timeout), open_current(settings) as store, store.read() as reader:
        return int(await sealing.holder(reader, store.clock.now()) is not None)


def _runs_here(settings: Settings) -> bool:
    lock = WorkerRunLock(settings.home)
    free = lock.try_acquire()
    lock.release()
    return not free


def _check(name: str) -> None:
    if name not in WORKERS:
        raise UsageFault(f"there is no worker {name!a}", hint=f"workers: {', '.join(WORKERS)}")
