"""Compare how many events a second this fleet handles with bare aio-pika and with Celery, on the same servers.

Every contender empties a full quorum queue, changes a row and writes that it did in one durable transaction, and
acknowledges after it. Ours also tells an event through its outbox, confirmed, and is done when the outbox is empty.
Contenders take turns; medians count. With one process ours must reach 60 % of bare aio-pika, and be faster than Celery.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from bench._arena import Arena, Bare, CeleryWorkers, Contender, Ours
from tests.servers.postgres import Postgres
from tests.servers.rabbitmq import RabbitNode

COUNT, ROUNDS, PROCESSES, SHARE = 2000, 3, (1, 2, 4), 0.6
_LONGEST = 120.0  # seconds of a round on a machine that others use as well


@contextmanager
def arena() -> Iterator[Arena]:
    """Start private servers, PostgreSQL with everything that makes a commit durable."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="twinlock-bench-"))
        postgres = stack.enter_context(closing(Postgres(durable=True)))
        rabbit = stack.enter_context(closing(RabbitNode(Path(folder))))
        postgres.start()
        rabbit.start()
        yield Arena(postgres, rabbit)


async def round_of(contender: Contender, processes: int) -> float:
    """Return the events a second of one round."""
    await contender.fill(COUNT)
    with ExitStack() as stack:
        running = [stack.enter_context(_killed(command)) for command in contender.commands(processes)]
        await contender.ready(running)
        began = time.perf_counter()
        await contender.go(running)
        try:
            async with asyncio.timeout(_LONGEST):
                await contender.until_done(COUNT)
        except TimeoutError:
            raise RuntimeError(f"{contender.name}: {processes} processes are not done in {_LONGEST:.0f} s") from None
        seconds = time.perf_counter() - began
    await contender.check(COUNT)
    return COUNT / seconds


@contextmanager
def _killed(command: list[str]) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            os.killpg(process.pid, 9)


async def contest(contenders: list[Contender], processes: int) -> dict[str, float]:
    """Take turns, and return the median of each."""
    rates: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for _ in range(ROUNDS):
        for contender in contenders:
            rates[contender.name].append(await round_of(contender, processes))
    return {name: statistics.median(found) for name, found in rates.items()}


async def contests(contenders: list[Contender]) -> bool:
    """Measure with every number of processes, print, and tell whether one process of ours is fast enough."""
    fast_enough = True
    for processes in PROCESSES:
        rates = await contest(contenders, processes)
        told = "   ".join(f"{name} {rate:6.0f}/s" for name, rate in rates.items())
        share, lead = rates["ours"] / rates["bare"], rates["ours"] / rates["celery"]
        print(f"{processes} processes: {told}   ours/bare {share:.2f}   ours/celery {lead:.2f}", flush=True)
        if processes == 1:
            fast_enough = share >= SHARE and lead > 1
    return fast_enough


def main() -> int:
    """Measure, and fail where one process of ours is too slow."""
    with arena() as servers:
        fast_enough = asyncio.run(contests([Ours(servers), Bare(servers), CeleryWorkers(servers)]))
    print(f"{COUNT} events, medians of {ROUNDS}; with one process at least {SHARE} of bare, and more than celery")
    return int(not fast_enough)


if __name__ == "__main__":
    sys.exit(main())
