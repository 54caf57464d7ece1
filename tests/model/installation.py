"""A whole installation whose processes can be killed, driven from outside its event loop, one act at a time."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from cli.wiring.parts import Certifying, Parts
from tests.integration.one_process.staff import PATIENCE, Staff
from tests.model.effects import Counted, lay
from tests.model.mixed import MixedLine
from tests.model.model import COOLING
from twinlock.approvals.acting import Approvals
from twinlock.approvals.settings import ApprovalSettings
from twinlock.clock import ManualClock
from twinlock.custody.audit.log import AuditLog
from twinlock.custody.custodian import LocalCustodian
from twinlock.custody.lifecycle.recovering import LocalRecovering
from twinlock.custody.settings import CustodySettings
from twinlock.keys.signing import SigningKey
from twinlock.store.engine import open_engine
from twinlock.store.unit import Cause, Store
from twinlock.vaults.directory import VaultDirectory
from twinlock.vaults.software.memory import MemoryVault

T = TypeVar("T")
CAUSE = Cause("test")
MAC_KEY = bytes(range(32))
PEOPLE = ("ann", "bob")
SMALL = {
    "content": {"batch_items": 2},
    "workers": {
        "assign_batch": 1,
        "drain_seconds": 5.0,
        "reconcile_seconds": 12.0,
        "alert_look_seconds": 12.0,
        "sweep_seconds": 60.0,
    },
    "approvals": {"cooling_off_seconds": COOLING},
}
# The clock moves by many seconds while the database confirms an epoch once; a key lives for longer than the bound
# of a denial, and that of a site ends while its vaults are silent.
CUSTODY = CustodySettings(
    epoch_seconds=36000.0, confirm_interval=6000.0, probe_interval=60.0, dep_key_ttl=7200.0, tik_ttl=600.0
)
_LOOK, _TICK = 0.02, 4.0  # seconds that something may take before the clock moves, and how far it moves
_WORK, _STEP = 0.1, 40.0  # the same where somebody has a deadline, and how far it moves at once where nobody has


class Stuck(AssertionError):
    """Say what does not come to its end."""


@asynccontextmanager
async def patience(what: str) -> AsyncIterator[None]:
    """Wait for so long and no longer; raise `Stuck`."""
    try:
        async with asyncio.timeout(PATIENCE):
            yield
    except TimeoutError:
        raise Stuck(what) from None


class Installation:
    """Hold the processes, the vaults and the people."""

    def __init__(self, folder: Path, template: Path, order: Random) -> None:
        self.clock, self.folder = ManualClock(), folder
        self.vault, self.provider = MemoryVault(self.clock), MemoryVault(self.clock)
        self.signers = {name: SigningKey.generate() for name in PEOPLE}
        self.sealer_key, self._certificates = SigningKey.generate(), SigningKey.generate()
        shutil.copyfile(template, folder / "twinlock.db")
        self._engine = open_engine(f"sqlite+aiosqlite:///{folder / 'twinlock.db'}")
        self.line = MixedLine(order)
        self.staff = Staff(self.line, self._engine, self.clock, folder / "home", self._custodian, SMALL)
        self.staff.watched = Counted
        self.staff.open_recovering, self.staff.open_certifying = self._recovering, self._certifying
        self.store = self.staff.store(self.line.asks)
        self.acts = Approvals(
            self.store, self._audit(self.store, "people"), ApprovalSettings(cooling_off_seconds=COOLING), True
        )
        self.parts: Parts
        self._runner = asyncio.Runner()
        self._stop: asyncio.Event
        self._owner: asyncio.Task[None]

    def do(self, act: Coroutine[Any, Any, T]) -> T:
        """Do something in the installation, which stands still otherwise."""
        return self._runner.run(act)

    def close(self) -> None:
        """Stop everything, however it stands."""
        try:
            self.do(self._close())
        finally:
            self._runner.close()

    async def _close(self) -> None:
        await self._kill()
        await self._engine.dispose()

    # The processes

    async def lay(self) -> None:
        """Make what effects are counted in."""
        await lay(self._engine)

    async def start(self) -> None:
        """Start every worker, with a custodian that remembers nothing."""
        self._stop, ready = asyncio.Event(), asyncio.Event()
        self._owner = asyncio.get_running_loop().create_task(self._own(self._stop, ready))
        while not ready.is_set():
            self._check()
            await asyncio.sleep(0)

    async def crash(self) -> None:
        """Kill every worker at once, wherever it is, and start them all again."""
        await self._kill()
        await self.start()

    async def rest(self, seconds: float) -> None:
        """Let time pass in which no process runs."""
        await self._kill()
        self.clock.advance(seconds)
        await self.start()

    async def _own(self, stop: asyncio.Event, ready: asyncio.Event) -> None:
        async with self.staff.working() as self.parts:
            ready.set()
            await stop.wait()

    async def _kill(self) -> None:
        self._owner.cancel()
        while not self._owner.done():
            await asyncio.wait({self._owner}, timeout=_LOOK)
            self.clock.advance(_TICK)
        if not self._owner.cancelled():
            self._owner.result()
        custodian = self.parts.custodian
        assert isinstance(custodian, LocalCustodian)
        custodian.close()

    def _check(self) -> None:
        if self._owner.done():
            self._owner.result()
            raise AssertionError("the workers have ended")

    # Waiting

    async def turns(self, count: int) -> None:
        """Let the workers go on a little."""
        for _ in range(count):
            await asyncio.sleep(0.001)
        self._check()

    async def moving(self, act: Coroutine[Any, Any, T]) -> T:
        """Do something while the clock moves."""
        task = asyncio.get_running_loop().create_task(act)
        async with patience(str(act)):
            while not task.done():
                await asyncio.wait({task}, timeout=_WORK)
                if not task.done():
                    self.clock.advance(_TICK)
        self._check()
        return task.result()

    async def until(self, happened: Callable[[], Coroutine[Any, Any, bool]]) -> None:
        """Move the clock on in small steps until something happened."""
        async with patience(happened.__qualname__):
            while not await happened():
                self._check()
                self.clock.advance(_TICK)
                await asyncio.sleep(_LOOK)

    async def moments(self, count: int) -> None:
        """Move the clock on in small steps, so many."""
        for _ in range(count):
            self.clock.advance(_TICK)
            await asyncio.sleep(_LOOK)
        self._check()

    async def quiet(self) -> bool:
        """Tell whether nothing is on its way and no worker has anything to do now."""
        return await self.staff.parked() and not await self.line.left(self.store)

    async def settle(self) -> None:
        """Wait until everything was done that can be done now."""
        await self.until(self.quiet)

    async def pass_time(self, seconds: float) -> None:
        """Let time pass, with everybody at work."""
        end = self.clock.monotonic() + seconds
        while self.clock.monotonic() < end:
            self.clock.advance(min(_STEP, end - self.clock.monotonic()))
            await asyncio.sleep(_LOOK)
        self._check()

    # What the processes hold

    def _audit(self, store: Store, writer: str) -> AuditLog:
        return AuditLog(store, writer, MAC_KEY, self.clock)

    def _custodian(self, store: Store) -> LocalCustodian:
        vaults = VaultDirectory({"memory": self.vault})
        audit = self._audit(store, "custodian")
        return LocalCustodian(store, vaults, self.provider, audit, self.clock, settings=CUSTODY)

    def _recovering(self, store: Store) -> LocalRecovering:
        vaults = VaultDirectory({"memory": self.vault})
        audit = self._audit(store, "recovery")
        return LocalRecovering(store, vaults, self.provider, audit, self.clock, settings=CUSTODY)

    def _certifying(self, store: Store) -> Certifying:
        return Certifying(self._certificates, self._audit(store, "recovery"))
