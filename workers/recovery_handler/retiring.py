"""Destroy availability keys whose place another one took, as soon as nothing is wrapped under them any more."""

import logging

from sqlalchemy import exists, select, update

from twinlock.crashpoints import CrashPoint, reach
from twinlock.custody.errors import KeyRefused
from twinlock.custody.port import Asker, Recovering, service
from twinlock.custody.rows import RETIRED
from twinlock.keys.ports import VaultFailure
from twinlock.store.tables.custody import availability_keys, policy_key_copies
from twinlock.store.unit import Cause, Store, new_id

log = logging.getLogger(__name__)

PURPOSE = "retire-availability-key"
_DESTROYED = "destroyed"


async def retire(store: Store, recovering: Recovering) -> None:
    """Destroy each retired key that wraps no stored copy; its row says so afterwards, and a repeat does no harm."""
    key, copy = availability_keys.c, policy_key_copies.c
    used = exists(select(copy.uri).where(copy.uri == key.uri))
    async with store.read() as reader:
        found = await reader.rows(select(key.policy_id, key.uri).where(key.state == RETIRED, ~used))
    for row in found:
        try:
            await _retire(store, recovering, row.policy_id, row.uri)
        except (KeyRefused, VaultFailure) as failure:  # the others are no worse for it, and this one is tried again
            log.warning("%s could not be destroyed yet: %s", row.uri, failure.detail)


async def _retire(store: Store, recovering: Recovering, policy_id: str, uri: str) -> None:
    key, asker = availability_keys.c, Asker(service(PURPOSE), Cause(new_id()))
    await recovering.destroy_availability_key(policy_id, uri, asker)
    reach(CrashPoint.AFTER_DESTRUCTION)
    async with store.begin(asker.cause) as unit:
        own = (key.policy_id == policy_id, key.uri == uri)
        await unit.execute(update(availability_keys).where(*own).values(state=_DESTROYED))
