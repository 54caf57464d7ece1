"""Measure how long an approved recovery takes: until mail is readable, and until a geo's sites are under the new TIK.

Both go from the last approval on, everything else of the fleet running. Mail has to be readable within a minute however
many mailboxes there are: the policy key is wrapped anew, and not one of them is touched for that. A geo has to be done
within five, at a cost per site that does not grow with their number. Arguments are other numbers of containers than the
default ones.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench._recovery import ASKER, Lost, lost, until
from schemas.identifiers import GeoState, Workload
from schemas.names import DEP_ASSIGNER, RECOVERY_HANDLER, SITE_REENCRYPTOR
from twinlock.custody.errors import CustodyError
from twinlock.custody.port import ContainerRef

MAILBOXES, SITES = (1_000, 100_000), (1_000, 10_000, 100_000)
BOUND, SITES_BOUND, GROWTH = 60.0, 300.0, 1.5


async def readable(parts: Lost, ref: ContainerRef) -> bool:
    """Say whether a person would be served now."""
    try:
        opened = await parts.custodian.open_container_key(ref, ASKER)
    except CustodyError:
        return False
    opened.key.wipe()
    return True


async def mailboxes(count: int) -> float:
    """Return the seconds from the last approval until the last of so many mailboxes is readable."""
    with tempfile.TemporaryDirectory(prefix="twinlock-bench-") as folder:
        async with lost(Path(folder), Workload.MAILBOX) as parts, parts.working(RECOVERY_HANDLER, DEP_ASSIGNER):
            refs = await parts.fill(Workload.MAILBOX, count)
            request = await parts.lose()
            assert not await readable(parts, refs[-1]), "the keys are not lost"  # noqa: S101  # else nothing is measured
            start = time.perf_counter()
            await parts.sign(request, "bob")
            await until(lambda: readable(parts, refs[-1]))
            return time.perf_counter() - start


async def sites(count: int) -> tuple[float, float]:
    """Return the seconds until so many sites can be opened, and until all are under the new TIK."""
    with tempfile.TemporaryDirectory(prefix="twinlock-bench-") as folder:
        async with lost(Path(folder), Workload.SITE) as parts, parts.working(RECOVERY_HANDLER, SITE_REENCRYPTOR):
            refs = await parts.fill(Workload.SITE, count)
            request = await parts.lose()
            start = time.perf_counter()
            await parts.sign(request, "bob")
            await until(lambda: parts.geo_is(GeoState.RECOVERING))
            assert await readable(parts, refs[-1]), "it was recovered"  # noqa: S101  # else nothing is measured
            first = time.perf_counter() - start
            await until(lambda: parts.geo_is(GeoState.REGISTERED))
            return first, time.perf_counter() - start


async def main(wanted: Sequence[int]) -> int:
    """Measure each number once, and fail above the bound."""
    slowest = 0.0
    for count in wanted or MAILBOXES:
        seconds = await mailboxes(count)
        slowest = max(slowest, seconds)
        print(f"{count:>7} mailboxes: readable {seconds:6.2f} s after the last approval (at most {BOUND:g} s)")
    each: list[float] = []
    longest = 0.0
    for count in wanted or SITES:
        first, whole = await sites(count)
        longest = max(longest, whole)
        each.append(whole / count)
        print(
            f"{count:>7} sites: readable after {first:6.2f} s, all under the new TIK after {whole:8.2f} s "
            f"(at most {SITES_BOUND:g} s), {1000 * whole / count:6.3f} ms a site",
            flush=True,
        )
    print(f"a site of the most costs {each[-1] / each[0]:.2f} times one of the fewest (at most {GROWTH:g})")
    return int(slowest > BOUND or longest > SITES_BOUND or each[-1] > GROWTH * each[0])


if __name__ == "__main__":
    sys.exit(asyncio.run(main([int(text) for text in sys.argv[1:]])))
