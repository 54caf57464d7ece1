"""The sealer of the audit log: of a home, where every process seals, or of a fleet, where one worker does."""

import asyncio
import logging

from cli import home
from cli.settings import Settings
from cli.wiring.marking import move_mark
from twinlock.custody.audit.sealing import Sealer
from twinlock.store.unit import Store, new_id

log = logging.getLogger(__name__)

_SECONDS = 30.0


def of_home(settings: Settings, store: Store) -> Sealer:
    """Return the sealer of this process in a home: nobody subscribes there, and what is signed is a row."""
    return Sealer(store, home.read_checkpoint_key(settings.home / home.SECRETS), f"embedded.{new_id()}")


def of_fleet(settings: Settings, store: Store, instance: str) -> Sealer:
    """Return the sealer of the worker that holds the key for it."""
    key = home.read_checkpoint_key(settings.secrets_folder)
    return Sealer(
        store, key, f"{instance}.{new_id()}", publishes=True, checkpoint_seconds=settings.workers.checkpoint_seconds
    )


async def seal_before_leaving(settings: Settings, store: Store) -> None:
    """Seal what this process wrote, and whatever else lies unsealed in its home; in a fleet that is a worker's task."""
    if settings.is_fleet:
        return
    try:
        async with asyncio.timeout(_SECONDS):
            await of_home(settings, store).pass_once(insist=True)
            await move_mark(settings.home, store)
    except Exception as fault:  # noqa: BLE001  # what was done is done; the next command seals, and `verify` tells
        log.warning("the audit log could not be sealed: %s", type(fault).__name__)
