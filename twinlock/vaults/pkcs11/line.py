"""Our end of the pipe to a library's process: one request after the other, read strictly, and ended for certain."""

import asyncio
from asyncio import StreamReader, StreamWriter
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from twinlock.vaults.pkcs11.frames import LENGTH_BYTES, BadFrame, body_length, decode, encode

_FAREWELL_SECONDS = 2.0
_MOST_PENDING = 16


class Answers:
    """Read answers in the order of their requests; whoever stops waiting leaves the rest to the next one."""

    def __init__(self, reader: StreamReader) -> None:
        self._reader = reader
        self._length: int | None = None

    async def next(self) -> dict[str, Any]:
        """Return the next answer; raise BadFrame, or IncompleteReadError where the other side ended."""
        if self._length is None:
            self._length = body_length(await self._reader.readexactly(LENGTH_BYTES))
        body = await self._reader.readexactly(self._length)
        self._length = None
        return decode(body)


class Line:
    """Hold a process and what it was asked; request 0, which says what it is for, is sent at once."""

    def __init__(self, process: Process, reader: StreamReader, writer: StreamWriter, first: dict[str, Any]) -> None:
        self._process = process
        self._answers = Answers(reader)
        self._reader = reader
        self._writer = writer
        self._pending: deque[int] = deque()
        self._since = 0.0
        self._sent = 0
        self._send(first)

    @classmethod
    async def open(cls, command: Sequence[str], environment: Mapping[str, str], first: dict[str, Any]) -> "Line":
        """Start a process, away from the terminal's signals and from every variable that is not its own."""
        process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=dict(environment), start_new_session=True
        )
        if process.stdin is None or process.stdout is None:
            raise OSError("no pipe")
        return cls(process, process.stdout, process.stdin, first)

    @property
    def number(self) -> int:
        """Return the number of the process."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Say whether the process has not ended yet."""
        return self._process.returncode is None

    @property
    def starting(self) -> bool:
        """Say whether the process has not answered at all yet."""
        return bool(self._pending) and self._pending[0] == 0

    @property
    def full(self) -> bool:
        """Say whether so many requests were left behind that no more may be sent."""
        return len(self._pending) >= _MOST_PENDING

    @property
    def waits(self) -> float:
        """Return for how many seconds the process has had the request that it is at."""
        return _now() - self._since if self._pending else 0.0

    async def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a request; the answers to those that nobody waits for any more are dropped."""
        number = self._send(request)
        while True:
            answer = await self._answers.next()
            if not self._pending or type(answer.get("id")) is not int or answer["id"] != self._pending[0]:
                raise BadFrame("answer to nothing that was asked")
            self._pending.popleft()
            self._since = _now()
            if answer["id"] == number:
                return answer

    def kill(self) -> None:
        """End the process at once, whatever it does."""
        with suppress(ProcessLookupError):
            self._process.kill()
        self._writer.close()

    async def close(self) -> None:
        """Let the process log out, or end it; return when it is gone."""
        self._writer.close()
        try:
            async with asyncio.timeout(_FAREWELL_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self.kill()
            await self._process.wait()
        with suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(_FAREWELL_SECONDS):
                await self._reader.read()  # what it has said still: only at the end is the pipe closed

    def _send(self, request: dict[str, Any]) -> int:
        number, self._sent = self._sent, self._sent + 1
        # No drain: requests are small and few, and a process that reads none is ended by its deadline.
        self._writer.write(encode({"id": number, **request}))
        if not self._pending:
            self._since = _now()
        self._pending.append(number)
        return number


def _now() -> float:
    return asyncio.get_running_loop().time()
