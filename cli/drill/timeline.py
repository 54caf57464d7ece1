"""Let the time of a sandbox pass, and see who is served, and until when.

What a custodian does by itself in real life, it does here at the same moments: it probes the keys that it holds and the
policies that it refused or that are not healthy, and refreshes ahead. Between these, one person and one service ask
again and again.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from cli.drill.sandbox import Sandbox
from twinlock.custody.port import USER, Initiator, service
from twinlock.custody.settings import CustodySettings

SERVICE = service("drill")
_LOOKS = 60  # over the whole time


@dataclass(slots=True)
class Reader:
    """Hold who asks, and when they were refused first without being served again."""

    initiator: Initiator
    refused_after: float | None = None

    def saw(self, served: bool, elapsed: float) -> None:
        """Take note of an answer."""
        if served:
            self.refused_after = None
        elif self.refused_after is None:
            self.refused_after = elapsed


@dataclass(slots=True)
class _Duty:
    """Hold something to be done every so many seconds."""

    every: float
    work: Callable[[], Awaitable[None]]
    due: float = field(default=0.0)


@dataclass(slots=True)
class Timeline:
    """Run a sandbox from a moment on; `elapsed` counts from there."""

    sandbox: Sandbox
    settings: CustodySettings
    began: float = field(init=False)
    duties: list[_Duty] = field(init=False)
    step: float = field(default=1.0)  # how exact a measured number is

    def __post_init__(self) -> None:
        custodian, settings = self.sandbox.custodian, self.settings
        self.began = self.sandbox.clock.monotonic()
        self.duties = [
            _Duty(settings.probe_interval, custodian.prober.probe_round),
            _Duty(settings.refusal_schedule[0], custodian.prober.probe_refused),
            _Duty(settings.refresh_pause, custodian.ahead.refresh_due),
        ]
        for duty in self.duties:
            duty.due = self.began + duty.every

    @property
    def elapsed(self) -> float:
        """Return how long it has run."""
        return self.sandbox.clock.monotonic() - self.began

    async def watch(self, seconds: float) -> tuple[Reader, Reader]:
        """Run for so long, and return what a person and a service came to see."""
        people, services = Reader(USER), Reader(SERVICE)
        self.step = max(1.0, seconds / _LOOKS)
        while self.elapsed < seconds:
            await self._pass(self.step)
            for reader in (people, services):
                reader.saw(await self.sandbox.serves(reader.initiator), self.elapsed)
        return people, services

    async def until_served(self, most: float) -> float | None:
        """Run until a person is served, and return how long that took, or none where it did not happen in time."""
        start = self.elapsed
        while not await self.sandbox.serves(USER):
            if self.elapsed - start > most:
                return None
            await self._pass(1.0)
        return self.elapsed - start

    async def _pass(self, seconds: float) -> None:
        """Let time pass, and have everything done that falls into it, at its moment."""
        clock = self.sandbox.clock
        end = clock.monotonic() + seconds
        while (duty := min(self.duties, key=lambda each: each.due)).due <= end:
            clock.advance(max(0.0, duty.due - clock.monotonic()))
            duty.due += duty.every
            await duty.work()
        clock.advance(max(0.0, end - clock.monotonic()))
