"""Compare hedged unwraps with those of a single vault, on two real OpenBao servers that are slow now and then.

A proxy delays one answer in twenty by half a second, for both sides alike. Their unwraps take turns, and after a
warm-up medians of rounds count. The 99th percentile of hedged unwraps has to be five times better, for no more than
6 % of extra requests: those are counted on their way to the servers. On a machine that is busy with other things both
sides wait for the processor, and the ratio says less.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field, replace
from itertools import cycle
from pathlib import Path
from random import Random

from schemas.identifiers import Slot
from tests.servers.openbao import OpenBao
from tests.servers.proxy import Proxy, proxied
from twinlock.clock import SystemClock
from twinlock.custody.decision import ROOT_SLOTS
from twinlock.custody.hedge import Hedged
from twinlock.custody.latency import Latencies
from twinlock.custody.rows import StoredPolicyKey
from twinlock.custody.settings import CustodySettings
from twinlock.custody.unwrap import SlotAsker, Unwrapped
from twinlock.keys.root_payload import seal
from twinlock.keys.secret import SecretKey
from twinlock.vaults.directory import VaultDirectory
from twinlock.vaults.openbao.settings import OpenBaoServer, OpenBaoSettings
from twinlock.vaults.openbao.uris import HTTP
from twinlock.vaults.openbao.vault import OpenBaoVault

WARM_UP, COUNT, ROUNDS, AT_ONCE = 800, 1000, 5, 3
SLOW_PART, SLOW_SECONDS = 0.05, 0.5
LEAST_GAIN, MOST_EXTRA = 5.0, 0.06
_KEY = "root"


@contextmanager
def servers(folder: Path) -> Iterator[list[OpenBao]]:
    """Start two servers."""
    with ExitStack() as stack:
        started = []
        for slot in ROOT_SLOTS:
            (folder / slot.value).mkdir()
            started.append(stack.enter_context(closing(OpenBao(folder / slot.value))))
            started[-1].start()
        yield started


class Road:
    """Be the way to one server: it counts the unwraps on it, and delays some of the answers."""

    def __init__(self, proxy: Proxy, rng: Random) -> None:
        self._unwraps = 0
        self._rng = rng
        proxy.late = self._late

    def taken(self) -> int:
        """Return how many unwraps came along since the last time."""
        unwraps, self._unwraps = self._unwraps, 0
        return unwraps

    def _late(self, data: bytes) -> float:
        self._unwraps += data.startswith(b"POST ")
        return SLOW_SECONDS if data.startswith(b"HTTP/") and self._rng.random() < SLOW_PART else 0.0


@dataclass(slots=True)
class Side:
    """Hold one way to unwrap the same policy key, its roads to the servers, and how long the last unwraps took."""

    unwrap: Callable[[], Awaitable[Unwrapped]]
    roads: list[Road]
    seconds: list[float] = field(default_factory=list)

    async def once(self) -> None:
        """Unwrap, and note how long it took."""
        began = time.perf_counter()
        if (await self.unwrap()).key is None:
            raise RuntimeError("an unwrap has failed")
        self.seconds.append(time.perf_counter() - began)

    def taken(self) -> "Round":
        """Return what was noted since the last time."""
        seconds, self.seconds = sorted(self.seconds), []
        asked = [road.taken() for road in self.roads]
        return Round(seconds, sum(asked))


@dataclass(frozen=True, slots=True)
class Round:
    """Hold the times of one round, sorted, and how many requests were made."""

    seconds: list[float]
    asked: int

    def quantile(self, part: float) -> float:
        """Return the time within which this part of the unwraps was done."""
        return self.seconds[int(len(self.seconds) * part)]


@asynccontextmanager
async def side(started: list[OpenBao], folder: Path, hedged: bool) -> AsyncIterator[Side]:
    """Open a vault of its own on both servers, each behind a proxy of its own."""
    rng, uris, logins = Random(1), {}, {}  # noqa: S311  # chance is no secret here
    async with proxied(started[0].port) as first, proxied(started[1].port) as second:
        for slot, server, proxy in zip(ROOT_SLOTS, started, (first, second), strict=True):
            mount, token = server.mount(), folder / f"{proxy.port}"
            mount.create(_KEY)
            token.write_text(mount.token())
            uris[slot] = mount.uri(_KEY, proxy.port)
            logins[f"127.0.0.1:{proxy.port}"] = OpenBaoServer(token_file=token)
        vault = OpenBaoVault(OpenBaoSettings(allow_http=True, servers=logins), folder, SystemClock())
        try:
            stored = await wrapped(vault, uris)
            roads = [Road(proxy, rng) for proxy in (first, second)]
            yield Side((by_both if hedged else by_one)(vault, stored), roads)
        finally:
            await vault.close()


def by_both(vault: OpenBaoVault, stored: StoredPolicyKey) -> Callable[[], Awaitable[Unwrapped]]:
    """Unwrap as a site's policy key is unwrapped, with every setting as it is by default."""
    clock, rules = SystemClock(), CustodySettings()
    latencies = Latencies(clock, rules.hedge)
    asker = SlotAsker(VaultDirectory({HTTP: vault}), clock, rules.vault_deadline, latencies)
    hedged = Hedged(asker, clock, latencies, rules.hedge, Random(1))  # noqa: S311  # chance is no secret here
    return lambda: hedged(stored, [])


def by_one(vault: OpenBaoVault, stored: StoredPolicyKey) -> Callable[[], Awaitable[Unwrapped]]:
    """Ask one vault, each every second time."""
    asker = SlotAsker(VaultDirectory({HTTP: vault}), SystemClock(), CustodySettings().vault_deadline)
    turns = cycle(ROOT_SLOTS)
    return lambda: asker.ask(stored, next(turns))


async def wrapped(vault: OpenBaoVault, uris: dict[Slot, str]) -> StoredPolicyKey:
    """Make a policy key with a copy under each root key."""
    key = SecretKey.generate()
    stored = StoredPolicyKey("acme", "policy", 1, key.commitment(), {})
    places = {slot: stored.context(slot) for slot in uris}
    copies = {slot: await vault.wrap(uris[slot], seal(key, at), at.encode()) for slot, at in places.items()}
    return replace(stored, copies=copies)


async def round_of(sides: Sequence[Side], number: int) -> list[Round]:
    """Make so many unwraps on every side, a few at a time: each one follows one of the other side."""
    left = iter(range(number))

    async def some() -> None:
        for _ in left:
            for each in sides:
                await each.once()

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(some())
    return [each.taken() for each in sides]


async def measure(started: list[OpenBao], folder: Path) -> int:
    """Measure both sides, print, and fail where a bound is missed."""
    async with side(started, folder, hedged=False) as single, side(started, folder, hedged=True) as hedged:
        await round_of((single, hedged), WARM_UP)
        rounds = [await round_of((single, hedged), COUNT) for _ in range(ROUNDS)]
    for name, taken in zip(("single", "hedged"), zip(*rounds, strict=True), strict=True):
        p50, p99 = (statistics.median(each.quantile(part) for each in taken) for part in (0.5, 0.99))
        print(f"{name}: p50 {p50 * 1000:6.1f} ms   p99 {p99 * 1000:6.1f} ms   extra {extra(taken):5.1%}")
    gain = statistics.median(alone.quantile(0.99) / both.quantile(0.99) for alone, both in rounds)
    cost = extra([both for _, both in rounds])
    print(f"{COUNT} unwraps a round, medians of {ROUNDS}: p99 {gain:.1f} times better (at least {LEAST_GAIN:g})")
    print(f"extra requests {cost:.2%} (at most {MOST_EXTRA:.0%})")
    return int(gain < LEAST_GAIN or cost > MOST_EXTRA)


def extra(rounds: Sequence[Round]) -> float:
    """Return the part of requests that came on top of one for each unwrap."""
    return sum(each.asked for each in rounds) / sum(len(each.seconds) for each in rounds) - 1


def main() -> int:
    """Measure, and fail where hedging gains too little or costs too much."""
    with tempfile.TemporaryDirectory(prefix="twinlock-bench-") as folder, servers(Path(folder)) as started:
        return asyncio.run(measure(started, Path(folder)))


if __name__ == "__main__":
    sys.exit(main())
