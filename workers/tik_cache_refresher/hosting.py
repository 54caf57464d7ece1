"""Serve the custodian's calls: people's and background ones apart, each lane with a bound of its own."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from events.waiting import unstrayed
from twinlock.custody.custodian import LocalCustodian
from twinlock.custody.health.looking import LOOK_SECONDS
from twinlock.custody.remote.ports import Calls, IncomingCall, Lane
from workers.roster import Periodic
from workers.settings import WorkerSettings

log = logging.getLogger(__name__)

Serve = Callable[[bytes, str | None], Awaitable[bytes | None]]


class Hosting:
    """Take calls from every lane until drained or cancelled; a busy lane never takes another's places."""

    def __init__(self, serve: Serve, lanes: Mapping[Lane, Calls], settings: WorkerSettings) -> None:
        self._serve = serve
        self._lanes = lanes
        self._places = {Lane.USER: settings.user_calls, Lane.BACKGROUND: settings.background_calls}
        self._draining = False
        self._stopped = asyncio.Event()
        self._stopped.set()

    async def run(self) -> None:
        """Serve all lanes; what ends one of them undrained is a fault and ends all."""
        self._stopped.clear()
        try:
            async with asyncio.TaskGroup() as group:
                for lane, calls in self._lanes.items():
                    group.create_task(unstrayed(self._take(calls, asyncio.Semaphore(self._places[lane]))))
        finally:
            self._stopped.set()

    async def drain(self, grace: float) -> None:
        """Take nothing more, and wait up to `grace` seconds for the calls that were begun.

        Given back, no replica would answer one of them: it was taken once, and its caller would wait for its expiry.
        """
        self._draining = True
        try:
            async with asyncio.timeout(grace):
                for calls in self._lanes.values():
                    await calls.stop()
                await self._stopped.wait()
        except TimeoutError:
            log.warning("calls are cut after the grace time; their callers ask again")

    async def _take(self, calls: Calls, places: asyncio.Semaphore) -> None:
        async with asyncio.TaskGroup() as group:
            async for call in calls:
                await places.acquire()
                group.create_task(self._handle(call, places))
        if not self._draining:
            raise RuntimeError("the custodian's calls have ended")

    async def _handle(self, call: IncomingCall, places: asyncio.Semaphore) -> None:
        try:
            await call.settle(await self._answer(call))
        except Exception as error:  # noqa: BLE001  # a reply that can't be sent is the caller's to ask for again
            log.warning("a reply could not be sent: %s", type(error).__name__)
        finally:
            places.release()

    async def _answer(self, call: IncomingCall) -> bytes | None:
        try:
            return await self._serve(call.body, call.sender)
        except Exception as error:  # noqa: BLE001  # whatever was sent, the custodian goes on
            log.warning("a call failed with %s", type(error).__name__)
            return None


def keeping(custodian: LocalCustodian, settings: WorkerSettings) -> tuple[Periodic, ...]:
    """Return what a custodian does by itself: what goes on for ever ends only by a fault, and is started again."""
    parts = {
        "confirm revocations": custodian.epoch.run,
        "probe": custodian.prober.run,
        "refresh ahead": custodian.ahead.run,
    }
    looks = Periodic("look at root keys", LOOK_SECONDS, custodian.looks.look_due)
    counting = Periodic("count vault operations", settings.count_seconds, custodian.count_operations)
    return (*(Periodic(name, settings.reconcile_seconds, run) for name, run in parts.items()), looks, counting)
