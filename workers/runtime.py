"""Start, drain and stop a fleet in one process: relay, consumers, and what has to be looked at from time to time."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from events.consumer import ConsumerRuntime
from events.handler import Handler
from events.relay import Relay
from twinlock.content.reencrypt import Reencrypter
from twinlock.custody.port import Custodian
from twinlock.keys.ports import Clock
from twinlock.store.unit import Store
from workers import wakeups
from workers.dep_assigner.assignment import Assign
from workers.dep_assigner.creation import CreatePolicy
from workers.dep_assigner.expansion import ExpandStep
from workers.dep_assigner.refresh import Refresh
from workers.mailbox_reencryptor.move import Move
from workers.mailbox_reencryptor.step import ReencryptStep
from workers.names import DEP_ASSIGNER, MAILBOX_REENCRYPTOR
from workers.settings import WorkerSettings
from workers.upkeep import Periodic

log = logging.getLogger(__name__)


def all_handlers(
    store: Store, custodian: Custodian, reencrypter: Reencrypter, settings: WorkerSettings
) -> Sequence[Handler[Any, Any]]:
    """Return the handlers of every worker."""
    return (
        CreatePolicy(store, custodian, settings),
        Assign(store),
        Refresh(store, custodian),
        ExpandStep(store, custodian, settings),
        Move(store, custodian),
        ReencryptStep(store, reencrypter, settings),
    )


class Fleet:
    """Run workers in this process until told to stop."""

    def __init__(
        self,
        store: Store,
        relay: Relay,
        consumers: ConsumerRuntime,
        periodic: Sequence[Periodic],
        clock: Clock,
        settings: WorkerSettings,
    ) -> None:
        self._store = store
        self._relay = relay
        self._consumers = consumers
        self._periodic = periodic
        self._clock = clock
        self._settings = settings

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then take nothing more, finish what runs, and publish what it left."""
        for worker in (DEP_ASSIGNER, MAILBOX_REENCRYPTOR):
            await wakeups.prepare_slots(self._store, worker, self._settings.concurrency)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._consumers.run())
            background = [group.create_task(self._relay.run())]
            background += [group.create_task(self._repeat(periodic)) for periodic in self._periodic]
            await stop.wait()
            await self._consumers.drain(self._settings.drain_seconds)
            for task in background:
                task.cancel()
        await self._relay.pass_once()

    async def _repeat(self, periodic: Periodic) -> None:
        while True:
            try:
                await periodic.action()
            except Exception as error:  # noqa: BLE001  # the next round tries again; nothing may end the fleet
                log.warning("%s failed with %s; it is tried again", periodic.name, type(error).__name__)
            await self._clock.sleep(periodic.seconds)
