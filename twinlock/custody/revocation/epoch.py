"""The right to serve: a custodian has it while it has confirmed the newest revocation within the last seconds (law 8).

To confirm is to read the newest number, to drop the keys of every policy that was revoked since, and then to say so in
the database. The seconds count from before the read, so that nobody who sees the confirmation, or waits for as long,
can find this process still serving by what it knew before. A process that was stopped, hangs, or is cut off from the
database loses the right by itself.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

from sqlalchemy.exc import SQLAlchemyError

from twinlock.custody.audit.log import AuditLog
from twinlock.custody.cache import KeyCache
from twinlock.custody.errors import Distrusted, KeyNotYet
from twinlock.custody.flight import SingleFlight
from twinlock.custody.port import Asker
from twinlock.custody.revocation import register, revocations
from twinlock.custody.revocation.mark import RestoreGuard
from twinlock.custody.revocation.register import Instance
from twinlock.custody.settings import CustodySettings
from twinlock.keys.ports import Clock
from twinlock.store.postgres import DatabaseUnavailable
from twinlock.store.unit import Cause, Reader, StaleRead, Store, new_id

log = logging.getLogger(__name__)

T = TypeVar("T")
_TROUBLE = (TimeoutError, SQLAlchemyError, DatabaseUnavailable, StaleRead, OSError)


class Epoch:
    """Confirm revocations for one process, whose keys are in `cache`; `report` says what it holds, for people.

    What it announces it writes to `audit`.
    """

    def __init__(
        self,
        store: Store,
        cache: KeyCache,
        clock: Clock,
        settings: CustodySettings,
        instance: Instance,
        report: Callable[[], register.Report],
        audit: AuditLog,
        guard: RestoreGuard | None = None,
    ) -> None:
        self._store = store
        self._cache = cache
        self._clock = clock
        self._settings = settings
        self._instance = instance
        self._report = report
        self._audit = audit
        self._guard = guard
        self._turn = asyncio.Lock()
        self._inline = SingleFlight[None]()  # a crowd that waits for one lock would come out of it one by one
        self._until: float | None = None
        self._registered = False
        self._trouble = False

    @property
    def holds(self) -> bool:
        """Say whether the last confirmation still holds."""
        return self._until is not None and self._clock.monotonic() < self._until

    async def serve(
        self, asker: Asker, work: Callable[[Asker], Awaitable[T]], discard: Callable[[T], None] = lambda _: None
    ) -> T:
        """Return the answer of `work`, which holds: nothing was revoked since it began, by all that is confirmed.

        Otherwise the answer is discarded and the work done again. Raise KeyNotYet where nothing can be confirmed.
        """
        until = asyncio.get_running_loop().time() + asker.deadline
        number = await self._confirmed(until)
        while True:
            answer = await work(asker)
            began = number
            try:
                number = await self._confirmed(until)
            except BaseException:
                discard(answer)
                raise
            if number == began:
                return answer
            discard(answer)
            asker = replace(asker, deadline=max(0.0, until - asyncio.get_running_loop().time()))

    async def run(self) -> None:
        """Confirm again and again; the caller cancels."""
        while True:
            try:
                async with asyncio.timeout(self._settings.epoch_seconds):
                    await self.confirm()
                    await self._announce()
            except _TROUBLE as fault:
                self._note(type(fault).__name__)
            await self._clock.sleep(self._settings.confirm_interval)

    async def confirm(self) -> None:
        """Confirm the newest number now."""
        async with self._turn:
            await self._confirm()
        self._note("")

    async def leave(self) -> None:
        """Give the right up, and take the process out of the register; nothing can be served any more after that."""
        self._until = None
        async with self._turn:  # a confirmation that is under way would give it back, and its row be gone
            self._until = None
            if self._registered:
                async with self._store.begin(Cause(new_id())) as unit:
                    await register.remove(unit, self._instance)

    async def _confirmed(self, until: float) -> int:
        if self.holds:
            return self._cache.epoch
        try:
            while not self.holds:
                patience = until - asyncio.get_running_loop().time()
                async with asyncio.timeout(patience):
                    await self._inline.do("confirm", self._confirm_lapsed, patience)
        except _TROUBLE as fault:
            self._note(type(fault).__name__)
            raise KeyNotYet(
                "the custodian can't confirm that nothing was revoked", policy="", hint="check the database"
            ) from fault
        return self._cache.epoch

    async def _confirm_lapsed(self) -> None:
        async with self._turn:
            if not self.holds:
                await self._confirm()

    async def _confirm(self) -> None:
        waited_for = await self._register()
        before = self._clock.monotonic()
        await self._drop_revoked()
        await self._write()
        if self._clock.monotonic() < waited_for:
            self._until = before + self._settings.epoch_seconds
        # Otherwise whoever revoked after the read may have seen this process lapse, and waits no more: it reads again.

    async def _register(self) -> float:
        """Return until when whoever revokes finds this process in the register, from before the read on, and waits."""
        if self._until is not None and self.holds:
            return self._until
        lapses = self._clock.monotonic() + self._settings.epoch_seconds
        await self._write()
        return lapses

    async def _drop_revoked(self) -> None:
        async with self._store.read() as reader:
            await self._refuse_distrusted(reader)
            newest = await revocations.newest(reader)
            found = await revocations.after(reader, self._cache.epoch)
        if self._until is None or newest < self._cache.epoch:
            # Nothing was ever cached here; or the database is an older one, whose next numbers are known here already.
            self._cache.close()
            self._cache.move_on(newest, ())
        elif found:
            dropped = self._cache.move_on(found[-1].number, {row.policy_id for row in found})
            log.warning("revocation %d confirmed: %d cached key(s) dropped", found[-1].number, dropped)

    async def _refuse_distrusted(self, reader: Reader) -> None:
        """Raise where the database is an older one, or forged; else keep outside of it what is confirmed next."""
        if self._guard is None:
            return
        try:
            await self._guard.check(reader)
        except Distrusted:
            self._until = None
            self._cache.close()
            raise

    async def _write(self) -> None:
        self._registered = True  # also where this is cancelled: it may be done all the same
        async with self._store.begin(Cause(new_id())) as unit:
            await register.confirm(unit, self._instance, self._cache.epoch, self._report())

    async def _announce(self) -> None:
        async with self._store.read() as reader:
            untold = await revocations.unannounced(reader)
        for number in untold:
            async with self._store.begin(Cause(new_id())) as unit:
                if (told := await revocations.announce(unit, number)) is not None:
                    await self._audit.append(unit, told)

    def _note(self, trouble: str) -> None:
        if bool(trouble) != self._trouble:
            self._trouble = bool(trouble)
            if trouble:
                log.warning("revocations can't be confirmed now, so nothing is served: %s", trouble)
            else:
                log.warning("revocations are confirmed again")
