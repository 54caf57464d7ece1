"""The keeper of one token: it starts the process of its library, ends one that hangs, and starts it again."""

import asyncio
import sys
from asyncio import IncompleteReadError
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from twinlock.keys.ports import Clock
from twinlock.vaults.pkcs11.frames import BadFrame
from twinlock.vaults.pkcs11.line import Line
from twinlock.vaults.pkcs11.reasons import Reason, VaultFault, fault_in
from twinlock.vaults.pkcs11.settings import Pkcs11Settings, Pkcs11Token

COMMAND = (sys.executable, "-I", "-m", "twinlock.vaults.pkcs11.child")
_SHARE = 0.25  # of the deadline: who has waited for our turn so long still has the token for most of it
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 10.0
_MOST_PIN_BYTES = 256


class Keeper:
    """Ask one token, one request at a time. A process that failed starts again at once, then after growing pauses."""

    def __init__(
        self,
        name: str,
        token: Pkcs11Token,
        settings: Pkcs11Settings,
        secrets: Path,
        clock: Clock,
        command: Sequence[str],
    ) -> None:
        self._name = name
        self._token = token
        self._start_deadline = settings.start_deadline
        self._patience = settings.deadline * _SHARE
        self._limit = settings.deadline - self._patience
        self._secrets = secrets
        self._clock = clock
        self._command = command
        self._turn = asyncio.Lock()
        self._line: Line | None = None
        self._ended: list[Line] = []
        self._failures = 0
        self._not_before = 0.0
        self._paused = Reason.RESTARTING
        self._pin = ""
        self._refused: VaultFault | None = None

    @property
    def process(self) -> int | None:
        """Return the number of the process that runs, if one does."""
        return None if self._line is None or not self._line.running else self._line.number

    async def ask(self, request: dict[str, Any], until: float) -> dict[str, Any]:
        """Return what a request came to, or raise its fault; `until` is on the loop's clock."""
        async with self._in_turn(until):
            line = await self._running()
            try:
                async with asyncio.timeout_at(until):
                    answer = await line.ask(request)
            except TimeoutError:
                raise self._overdue(line) from None
            except (IncompleteReadError, ConnectionError):
                self._give_up(line)
                raise VaultFault(Reason.OURS if line.starting else Reason.CRASHED) from None
            except BadFrame:
                self._give_up(line)
                raise VaultFault(Reason.UNKNOWN, "frame") from None
            return self._read(line, answer)

    async def close(self) -> None:
        """End the process; a later request starts another one."""
        line, self._line = self._line, None
        ended, self._ended = self._ended, []
        for each in (*ended, *([] if line is None else [line])):
            await each.close()

    def _read(self, line: Line, answer: dict[str, Any]) -> dict[str, Any]:
        found, said = answer.get("ok"), answer.get("fault")
        if isinstance(found, dict):
            self._failures = 0
            return found
        fault = fault_in(said)
        if isinstance(said, dict) and said.get("barred") is True:
            self._refused = fault
        elif said is None:
            self._give_up(line)
        else:
            self._failures = 0
        raise fault

    @asynccontextmanager
    async def _in_turn(self, until: float) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout_at(min(until, asyncio.get_running_loop().time() + self._patience)):
                await self._turn.acquire()
        except TimeoutError:
            raise VaultFault(Reason.BUSY) from None
        try:
            yield
        finally:
            self._turn.release()

    async def _running(self) -> Line:
        """Return the process: the one that runs, or another in its place."""
        self._heed_refusal()
        line = self._line
        if line is not None and line.running and line.waits > (self._start_deadline if line.starting else self._limit):
            self._give_up(line)  # whoever asked it has left before its deadline was over
        elif line is not None and line.full:
            raise VaultFault(Reason.BUSY)
        if self._line is None or not self._line.running:
            self._line = await self._started()
        return self._line

    async def _started(self) -> Line:
        if self._clock.monotonic() < self._not_before:
            raise VaultFault(self._paused)
        if self._line is not None:
            self._ended.append(self._line)
            self._line = None
        ended = self._ended
        for each in [each for each in ended if not each.running]:
            await each.close()
            ended.remove(each)
        try:
            return await Line.open(self._command, self._token.environment, self._first())
        except (OSError, ValueError) as fault:
            raise VaultFault(Reason.OURS, type(fault).__name__) from None

    def _first(self) -> dict[str, Any]:
        self._pin = _pin_in(self._pin_file)
        return {
            "token": self._name,
            "module": str(self._token.module),
            "serial": self._token.serial,
            "slot": self._token.slot,
            "pin": self._pin,
        }

    @property
    def _pin_file(self) -> Path:
        if self._token.pin_file is None:
            raise VaultFault(Reason.NO_FILE)
        return self._secrets / self._token.pin_file

    def _heed_refusal(self) -> None:
        """Raise why the PIN was refused for as long as its file holds the same: another try may lock the token."""
        if self._refused is None:
            return
        if _pin_in(self._pin_file) == self._pin:
            raise VaultFault(self._refused.reason, self._refused.raw)
        self._refused = None
        if self._line is not None:
            self._line.kill()
            self._ended.append(self._line)
            self._line = None

    def _overdue(self, line: Line) -> VaultFault:
        """Say what a request that was not answered in time stands for; one that had all of it ends the process."""
        if line.starting:
            if line.waits >= self._start_deadline:
                self._give_up(line)
            return VaultFault(Reason.STARTING)
        if line.waits >= self._limit:
            self._give_up(line)
        return VaultFault(Reason.NO_ANSWER)

    def _give_up(self, line: Line) -> None:
        """End the process; the first time another one starts at once, then after growing pauses."""
        line.kill()
        self._ended.append(line)
        self._line = None
        self._paused = Reason.OURS if line.starting else Reason.RESTARTING
        self._failures += 1
        if self._failures > 1:
            pause = min(_FIRST_PAUSE * 2 ** min(self._failures - 2, 10), _LONGEST_PAUSE)
            self._not_before = self._clock.monotonic() + pause


def _pin_in(path: Path) -> str:
    try:
        pin = path.read_text(encoding="utf-8").strip("\r\n")
    except (OSError, ValueError):
        raise VaultFault(Reason.NO_FILE, path.name) from None
    if not pin or not pin.isprintable() or len(pin.encode()) > _MOST_PIN_BYTES:
        raise VaultFault(Reason.NO_FILE, path.name)
    return pin
