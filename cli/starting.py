"""Wait for what a worker of a fleet needs before it starts.

A supervisor starts everything at once, and nobody may have to come and start a worker again: a server that is not there
yet is waited for. What does not pass by itself is raised: a login that is refused, a queue that nobody declared.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial

from sqlalchemy.exc import SQLAlchemyError

from cli import home
from cli.presence import look
from cli.settings import Settings
from cli.wiring import open_current
from events.amqp.connection import Pauses
from events.amqp.trouble import BrokerGone, BrokerRefused, LoginRefused, silent
from events.waiting import randomly
from schemas.names import AUDIT_SEALER, CUSTODIAN, RECOVERY_HANDLER
from twinlock.custody.callers import enrolment
from twinlock.errors import TwinlockError
from twinlock.keys.signing import fingerprint
from twinlock.store.postgres import DatabaseNotReached, of_postgresql
from workers.health import Health, unready

log = logging.getLogger(__name__)

_LOOK_SECONDS = 20.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0


def check_secrets(settings: Settings, worker: str) -> None:
    """Raise where a worker has no key to sign with, or a custodian no home."""
    home.read_worker_key(settings.secrets_folder, worker)
    if worker == AUDIT_SEALER:
        home.read_checkpoint_key(settings.secrets_folder)
    if worker == RECOVERY_HANDLER:
        home.read_certificate_key(settings.secrets_folder)
    if worker in (CUSTODIAN, RECOVERY_HANDLER) and not home.has_audit_key(settings.home):
        raise TwinlockError(
            f"{settings.home / home.AUDIT_KEY} is missing: {worker} needs the home with the vaults",
            hint="name the home that twinlock init has made: --home DIR",
        )
    if worker in (CUSTODIAN, RECOVERY_HANDLER) and not home.has_checkpoint_public(settings.home):
        public = settings.home / home.CHECKPOINT_PUBLIC
        log.warning("%s is missing: without it no checkpoint moves the mark of this home on (docs/backup.md)", public)


async def until_reached(settings: Settings, worker: str, health: Health) -> None:
    """Return when a worker's database and broker are within reach and hold what it needs; meanwhile it is unready."""
    for what, ask in (("database", _of_database), ("broker", _of_broker)):
        await _patiently(partial(ask, settings, worker), f"{worker}: {what}", health)


async def until_prepared(prepare: Callable[[], Awaitable[None]], worker: str, health: Health) -> None:
    """Return when a worker has done what it does once: what was within reach a moment ago may be gone again."""
    await _patiently(prepare, f"{worker}: database", health)


async def _patiently(ask: Callable[[], Awaitable[None]], name: str, health: Health) -> None:
    pauses, told = Pauses(_FIRST_PAUSE, _LONGEST_PAUSE, randomly), ""
    while True:
        try:
            return await ask()
        except (SQLAlchemyError, BrokerGone) as error:
            gone = _passing(error)
        health.checks = {name: unready(gone.detail)}
        if gone.detail != told:
            told = gone.detail
            log.warning("waiting: %s (%s)", gone.detail, gone.hint)
        pauses.failures += 1
        await asyncio.sleep(pauses.seconds())


def _passing(error: SQLAlchemyError | BrokerGone) -> TwinlockError:
    """Return what may pass by itself, in words for people; raise anything else."""
    if isinstance(error, DatabaseNotReached):
        return error
    if isinstance(error, BrokerGone) and not isinstance(error, LoginRefused | BrokerRefused):
        return error
    if isinstance(error, SQLAlchemyError) and isinstance(found := of_postgresql(error), DatabaseNotReached):
        return found
    raise error


async def _of_database(settings: Settings, worker: str) -> None:
    key = home.read_worker_key(settings.secrets_folder, worker)
    async with open_current(settings, sender=worker) as store, store.read() as reader:
        known = await enrolment.find_key(reader, fingerprint(key.public))
    if known is None or known.name != worker:
        raise TwinlockError(
            f"the key {settings.secrets_folder / worker}.key is not enrolled, or retired",
            hint=f"run: twinlock worker enroll {worker}",
        )


async def _of_broker(settings: Settings, worker: str) -> None:
    try:
        async with asyncio.timeout(_LOOK_SECONDS):
            await look(settings, worker)
    except TimeoutError:
        raise silent(settings.broker) from None
