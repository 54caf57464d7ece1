"""What the screen of `status` is made of, where no command can bring it about in a moment."""

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import insert, update

from cli.commands.status import details
from cli.commands.status.access import endangered, read_access
from schemas.identifiers import PolicyState
from twinlock.custody.policies import load_policy
from twinlock.store.tables.custody import policies
from twinlock.store.tables.work import jobs
from twinlock.store.unit import Cause

if TYPE_CHECKING:
    from tests.integration.conftest import World

CAUSE, P, EUROPE = Cause("test"), "policy-p", "policy-europe"
OTHERS = {"worker": "w", "tenant_id": "acme", "payload": {}, "trouble": "", "fencing": 0, "turn": 0}


async def test_running(world: "World") -> None:
    """A job shows its rate, the time that is left by it, and when that is over; one that did nothing yet has none."""
    began = world.clock.now()
    async with world.store.begin(CAUSE) as unit:
        for name, done in (("a", 10), ("b", 0)):
            row = {"id": name, "kind": "reencrypt", "total": 40, "done": done, "created_at": began, "correlation": name}
            await unit.execute(insert(jobs).values(**row, **OTHERS, not_before=began))
    world.clock.advance(20)
    async with world.store.read() as reader:
        first, second = await details.work(reader, world.clock.now())

    assert (0.5, 60, "acme") == (first["per_second"], first["seconds_left"], first["tenant"])
    assert (began + timedelta(seconds=80)).isoformat(timespec="seconds") == first["ends"]
    assert (None, None) == (second["seconds_left"], second["ends"])


@pytest.mark.parametrize("state", [PolicyState.PURGING, PolicyState.PURGED])
async def test_purged(world: "World", state: PolicyState) -> None:
    """Whoever is under a policy that is being purged, or was, is locked out, though nothing of it may be left."""
    async with world.store.begin(CAUSE) as unit:
        await unit.execute(update(policies).where(policies.c.id == P).values(state=state, newest_generation=9))
    async with world.store.read() as reader:
        policy = await load_policy(reader, P)
        assert policy is not None
        access = await read_access(reader, policy)

    assert access.is_locked_out
    assert (state.value, "users and service") == (access.document()["why"], access.document()["who"])


async def test_expiring(world: "World") -> None:
    """A TIK that could not be refreshed tells how long it still serves."""
    now = world.clock.now()
    keys = [{"policy": EUROPE, "expires": (now + timedelta(seconds=seconds)).isoformat()} for seconds in (1200, 900)]
    alert = {"kind": "tik-expiring", "policy": EUROPE, "detail": "policy acme/e: tik-expiring", "first_seen": "then"}
    async with world.store.read() as reader:
        policy = await load_policy(reader, EUROPE)
        assert policy is not None
        found = [await read_access(reader, policy)]
    (row,) = endangered(found, [alert], [{"keys": keys}], now)

    assert ("acme/policy-europe", 900) == (row["policy"], row["seconds_left"])
