"""`twinlock worker`: run the workers of a home until told to stop, and see whether somebody does."""

import asyncio
import signal
import sys
from typing import Annotated

import typer

from cli import logs
from cli.command import command
from cli.failures import UsageFault
from cli.output import Failure, Result
from cli.session import Session
from events.home_lock import HomeLock, WorkerRunLock
from workers.names import DEP_ASSIGNER, MAILBOX_REENCRYPTOR

noun = typer.Typer(help="The workers.")

WORKERS = (DEP_ASSIGNER, MAILBOX_REENCRYPTOR)
_TOGETHER = "an embedded home runs all its workers in one process"


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.add_typer(noun, name="worker")


@command(noun, "run")
async def run(
    session: Session,
    name: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help=", ".join(WORKERS))] = None,
    everything: Annotated[bool, typer.Option("--all", help="All workers.")] = False,
) -> Result:
    """Run workers until SIGTERM or SIGINT, then finish what runs."""
    if bool(name) == everything:
        raise UsageFault("it is not said which workers", hint="name them, or use --all")
    for each in name or ():
        _check(each)
    settings = session.parts.settings
    with WorkerRunLock(settings.home):
        logs.configure(settings.home, to_terminal=True)
        if name and set(name) != set(WORKERS):
            sys.stderr.write(f"warning: {_TOGETHER}: running {', '.join(WORKERS)}\n")
        await _serve(session)
    return Result({"workers": list(WORKERS), "stopped": True}, ["drained and stopped"])


async def _serve(session: Session) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with HomeLock(session.parts.settings.home) as lock:
        if not await _acquired(session, lock, stop):
            return
        sys.stderr.write(f"running {', '.join(WORKERS)}\n")
        sys.stderr.flush()
        await session.parts.fleet().run(stop)


async def _acquired(session: Session, lock: HomeLock, stop: asyncio.Event) -> bool:
    """Take over from a command that runs the workers now, as soon as it is done; false if told to stop meanwhile."""
    async with asyncio.TaskGroup() as group:
        taking = group.create_task(lock.acquire(session.parts.clock))
        stopping = group.create_task(stop.wait())
        await asyncio.wait((taking, stopping), return_when=asyncio.FIRST_COMPLETED)
        done = taking.done()
        taking.cancel()
        stopping.cancel()
    return done


@command(noun, "check")
async def check(
    session: Session, name: Annotated[str, typer.Argument(metavar="NAME", help=", ".join(WORKERS))]
) -> Result:
    """Say whether a worker run is active on the home, as a health probe."""
    _check(name)
    home = session.parts.settings.home
    lock = WorkerRunLock(home)
    running = not lock.try_acquire()
    lock.release()
    failure = None if running else Failure(f"{name} is not running", "start it: twinlock worker run --all")
    return Result({"worker": name, "running": running}, [f"{name} is running"] if running else (), failure)


def _check(name: str) -> None:
    if name not in WORKERS:
        raise UsageFault(f"there is no worker {name!a}", hint=f"workers: {', '.join(WORKERS)}")
