"""Wait until no custodian serves by what it knew before a revocation (law 8)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from twinlock.custody.revocation import register
from twinlock.custody.revocation.register import Registered
from twinlock.custody.settings import CustodySettings
from twinlock.keys.ports import Clock
from twinlock.store.clock import MOST_UNCERTAIN
from twinlock.store.unit import Store

_POLL_SECONDS = 0.2
# By how much the clocks of two processes may differ that both go by the database's: half a round trip each, and drift.
_MARGIN = 2 * MOST_UNCERTAIN + 0.1


@dataclass(frozen=True, slots=True)
class Settled:
    """Say how many custodians have dropped the keys, how many have lost the right to serve, and since when."""

    evicted: int
    lapsed: int
    at: datetime


async def settled(store: Store, clock: Clock, number: int, settings: CustodySettings) -> Settled:
    """Return when every registered custodian has confirmed a number, or its confirmation has lapsed.

    A confirmation that is still to come is of a read after this began, and such a read finds the number. So whoever has
    not confirmed it when the seconds are over, on the clock of this process, serves nothing.
    """
    end = clock.monotonic() + settings.epoch_seconds
    while True:
        async with store.read() as reader:
            found = await register.read_all(reader)
        if clock.monotonic() >= end or not _open(found, number, clock.now(), settings):
            evicted = sum(each.epoch >= number for each in found)
            return Settled(evicted, len(found) - evicted, clock.now())
        await clock.sleep(min(_POLL_SECONDS, end - clock.monotonic()))


def _open(found: Sequence[Registered], number: int, now: datetime, settings: CustodySettings) -> bool:
    lapsed = now - timedelta(seconds=settings.epoch_seconds + _MARGIN)
    return any(each.epoch < number and each.confirmed_at > lapsed for each in found)
