"""Serve as workers until told to stop: in a fleet, or in an embedded home."""

import asyncio
import signal
import sys
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext

from cli import logs
from cli.address import Address
from cli.settings import Settings
from cli.wiring import Parts, open_parts, open_staff
from cli.wiring.embedded import embedded_fleet
from cli.wiring.health import health_of_store
from cli.wiring.looks import looks_of_home
from cli.wiring.observing import observed
from events.home_lock import HomeLock, WorkerRunLock
from events.sole_worker import sole_worker
from events.waiting import unless
from workers.health import Health, unready
from workers.roster import ROSTER
from workers.runtime import Fleet

WORKERS = tuple(ROSTER)
_TOGETHER = "an embedded home runs all its workers in one process"


async def run_fleet(settings: Settings, names: tuple[str, ...], at: Address | None) -> None:
    """Run these workers of a fleet, each with its own login, as soon as what they need is within reach."""
    from cli.starting import check_secrets, until_prepared, until_reached  # the broker's library, for a fleet alone

    own = {name: settings.of_worker(name) for name in names}
    for name in names:
        check_secrets(own[name], name)
    logs.configure(settings.home, to_terminal=True, as_json=settings.logs == "json")
    async with observed(settings) as page, AsyncExitStack() as stack:
        health = Health({name: unready("it is starting") for name in names}, page)
        stop = _until_told(health)
        await stack.enter_async_context(_answering(health, at))
        for name in names:
            await unless(stop, until_reached(own[name], name, health))
        if stop.is_set():
            return
        staffs = {name: await stack.enter_async_context(open_staff(settings, name, page.metrics)) for name in names}
        for name in names:
            await unless(stop, until_prepared(staffs[name].fleet.prepare, name, health))
        if stop.is_set():
            return
        page.looks = {f"{name}: {what}": look for name in names for what, look in staffs[name].looks.items()}
        health.checks = {f"{name}: {what}": check for name in names for what, check in staffs[name].checks.items()}
        await _serve([staff.fleet for staff in staffs.values()], names, stop)


async def run_embedded(settings: Settings, names: tuple[str, ...], at: Address | None) -> None:
    """Run all workers of a home, whichever were named."""
    async with observed(settings) as page, open_parts(settings, page.metrics) as parts:
        page.looks = looks_of_home(page.metrics, parts.store, parts.custodian)
        with WorkerRunLock(settings.home):
            logs.configure(settings.home, to_terminal=True, as_json=settings.logs == "json")
            if set(names) != set(WORKERS):
                sys.stderr.write(f"warning: {_TOGETHER}: running {', '.join(WORKERS)}\n")
            health = Health({"database": health_of_store(parts.store)}, page)
            stop = _until_told(health)
            with HomeLock(settings.home) as lock:
                if await _acquired(parts, lock, stop):
                    async with sole_worker(parts.store), _answering(health, at):
                        await _serve([embedded_fleet(parts, page.metrics)], WORKERS, stop)


def _until_told(health: Health) -> asyncio.Event:
    """Return an event that a signal sets; whoever asks for health learns of it at once."""
    stop = asyncio.Event()

    def told() -> None:
        health.stopping = True
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told)
    return stop


def _answering(health: Health, at: Address | None) -> AbstractAsyncContextManager[None]:
    return health.served(*at) if at else nullcontext()


async def _serve(fleets: Sequence[Fleet], names: tuple[str, ...], stop: asyncio.Event) -> None:
    sys.stderr.write(f"running {', '.join(names)}\n")
    sys.stderr.flush()
    async with asyncio.TaskGroup() as group:
        for fleet in fleets:
            group.create_task(fleet.run(stop))


async def _acquired(parts: Parts, lock: HomeLock, stop: asyncio.Event) -> bool:
    """Take over from a command that runs the workers now, as soon as it is done; false if told to stop meanwhile."""
    async with asyncio.TaskGroup() as group:
        taking = group.create_task(lock.acquire(parts.clock))
        stopping = group.create_task(stop.wait())
        await asyncio.wait((taking, stopping), return_when=asyncio.FIRST_COMPLETED)
        done = taking.done()
        taking.cancel()
        stopping.cancel()
    return done
