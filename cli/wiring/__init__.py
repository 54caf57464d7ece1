"""The one place that knows every adapter: it opens the parts of an installation, hands them out, and closes them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from cli import home
from cli.home import NotInitialised
from cli.settings import Settings
from cli.wiring.embedded import embedded
from cli.wiring.parts import Parts
from schemas.names import OPERATOR
from twinlock.clock import SystemClock
from twinlock.keys.ports import Clock
from twinlock.store import migrate
from twinlock.store.clock import DatabaseClock
from twinlock.store.engine import open_engine
from twinlock.store.unit import LOCAL_PUBLISHER, Store

if TYPE_CHECKING:
    from cli.wiring.fleet import Staff
    from workers.metrics.instruments import Metrics  # its library is for workers, and takes its time

SOURCE = "urn:twinlock"

__all__ = ["Parts", "clock_for", "open_current", "open_parts", "open_staff", "open_store"]


def clock_for(settings: Settings) -> Clock:
    """Return the clock of an installation: with a database that several machines share, the database's own."""
    machine = SystemClock()
    return DatabaseClock(machine) if settings.database_url.startswith("postgresql") else machine


@asynccontextmanager
async def open_store(settings: Settings, clock: Clock, sender: str = LOCAL_PUBLISHER) -> AsyncIterator[Store]:
    """Open the database, of whatever shape it is."""
    part = "embedded" if sender == LOCAL_PUBLISHER else sender
    store = Store(open_engine(settings.database_url), clock, f"{SOURCE}:{part}", sender)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def open_parts(settings: Settings, metrics: "Metrics | None" = None) -> AsyncIterator[Parts]:
    """Open an initialised installation for a command; raise `NotInitialised` where it is none."""
    clock = clock_for(settings)
    if not settings.is_fleet:
        home.check(settings.home)
        async with (
            open_current(settings, clock, LOCAL_PUBLISHER) as store,
            embedded(settings, clock, store, metrics) as parts,
        ):
            yield parts
    else:
        from cli.wiring import fleet  # a home needs no broker, and not the time that its library takes to load

        settings.check_login(OPERATOR, "set TWINLOCK_SECRETS to the folder of that login")
        async with open_current(settings, clock, OPERATOR) as store, fleet.operator(settings, clock, store) as parts:
            yield parts


@asynccontextmanager
async def open_staff(settings: Settings, worker: str, metrics: "Metrics") -> "AsyncIterator[Staff]":
    """Open one worker of a fleet, for this process to run; nothing is asked of the database yet."""
    from cli.wiring import fleet

    own, clock = settings.of_worker(worker), clock_for(settings)
    async with open_store(own, clock, worker) as store, fleet.staff(own, clock, store, worker, metrics) as staff:
        yield staff


@asynccontextmanager
async def open_current(settings: Settings, clock: Clock | None = None, sender: str = "") -> AsyncIterator[Store]:
    """Open a database that has the shape which this program needs; raise `NotInitialised` where it has none.

    By default its events are those of whoever types commands.
    """
    clock, sender = clock or clock_for(settings), sender or (OPERATOR if settings.is_fleet else LOCAL_PUBLISHER)
    async with open_store(settings, clock, sender) as store:
        if not await migrate.is_current(store.engine):
            raise NotInitialised(settings.home)
        yield store
