"""The workers with their custodian in another process: each call is for work that law 10 lets it name."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from schemas.identifiers import AvailabilityMode, RequestOutcome, Workload
from schemas.names import CUSTODIAN, DEP_ASSIGNER, MAILBOX_REENCRYPTOR
from schemas.requests import AssignmentRequested, MoveRequested, PolicyRequested, RefreshRequested
from twinlock.content.keyring import Keyring
from twinlock.content.reencrypt import Reencrypter
from twinlock.custody.audit.log import AuditLog
from twinlock.custody.callers.enrolment import enroll
from twinlock.custody.callers.purposes import CALLERS
from twinlock.custody.errors import CustodianSilent
from twinlock.custody.memory import MemoryCustodian
from twinlock.custody.port import Asker, Custodian, Probe
from twinlock.custody.remote.caller import RemoteCustodian
from twinlock.custody.remote.host import CustodianHost
from twinlock.custody.remote.memory import MemoryCarrier
from twinlock.custody.remote.ports import Lane
from twinlock.keys.signing import SigningKey
from twinlock.store.tables.custody import audit_entries
from twinlock.store.tables.work import jobs
from twinlock.store.unit import Cause
from workers.roster import Handlers, Workplace, handlers_of
from workers.tik_cache_refresher.hosting import Hosting

if TYPE_CHECKING:
    from tests.integration.conftest import Pump, World

ROOTS = ("memory://a/key", "memory://b/key")  # those of every policy of the custodian in memory


class Apart:
    """Hold the custodian's process, and the custodian as each worker has it."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.keys = {name: SigningKey.generate() for name in (CUSTODIAN, *CALLERS)}
        self.carrier = MemoryCarrier()

    def of(self, name: str) -> Custodian:
        """Return the custodian as this worker has it."""
        return RemoteCustodian(self.world.store, self.carrier, name, self.keys[name], self.world.clock)

    @asynccontextmanager
    async def running(self, pump: "Pump") -> AsyncIterator[None]:
        """Serve the custodian, and put each worker's handlers before it."""
        world = self.world
        async with world.store.begin(Cause("test")) as unit:
            for name, key in self.keys.items():
                await enroll(unit, name, key.public)
        pump._handlers = {
            each.handles.type: each
            for name in (DEP_ASSIGNER, MAILBOX_REENCRYPTOR)
            for each in self._handlers(pump, name)
        }
        audit = AuditLog(world.store, "host", bytes(32), world.clock)
        host = CustodianHost(world.store, world.custodian, self.keys[CUSTODIAN], audit, world.clock)
        hosting = Hosting(host.serve, {lane: self.carrier.calls(lane) for lane in Lane}, pump.settings)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(hosting.run())
            yield
            task.cancel()

    def _handlers(self, pump: "Pump", name: str) -> Handlers:
        world, custodian = self.world, self.of(name)
        reencrypter = Reencrypter(world.store, world.objects, Keyring(custodian, world.clock), world.settings)
        return handlers_of(
            Workplace(world.store, custodian, reencrypter, world.blob_reencrypter, world.sweeper, pump.settings), [name]
        )


async def test_law_10_the_whole_path(world: "World", pump: "Pump") -> None:
    """Law 10: policies are made, rolled, assigned and left, mailboxes moved, each call for work that is verified."""
    await world.mailbox("ann@acme.example", b"one", b"two")
    await world.mailbox("bob@acme.example", b"three")
    before = await world.content("ann@acme.example")
    async with Apart(world).running(pump):
        wanted = PolicyRequested(
            tenant="acme", name="main", workload=Workload.MAILBOX, mode=AvailabilityMode.NONE, keys=ROOTS
        )
        made = await pump.ask(wanted)
        policy = made[1]["policy"]
        outcomes = [
            made[0],
            (await pump.ask(AssignmentRequested(policy=policy, all_mailboxes=True)))[0],
            (await pump.ask(MoveRequested(mailbox="ann@acme.example")))[0],
            (await pump.ask(RefreshRequested(policy=policy, new_policy_key=True)))[0],
            (await pump.ask(AssignmentRequested(policy="service", mailboxes=("ann@acme.example",))))[0],
        ]

    assert [RequestOutcome.DONE] * 5 == outcomes
    assert before == await world.content("ann@acme.example")
    async with world.store.read() as reader:
        assert [] == await reader.rows(select(jobs.c.id))
        assert [] == await reader.rows(select(audit_entries.c.detail))
    assert {"service:reencrypt"} == {str(asker.initiator) for _, asker in world.custodian.opened} - {"user"}


class _Silent(MemoryCustodian):
    async def probe(self, uri: str, asker: Asker) -> Probe:
        raise CustodianSilent


async def test_silence_has_its_name(world: "World", pump: "Pump") -> None:
    """A policy's request fails by what its custodian came to, so that the reason to try again says so."""
    silent = replace(pump.place, custodian=_Silent(world.store))
    pump._handlers = {each.handles.type: each for each in handlers_of(silent, [DEP_ASSIGNER])}
    wanted = PolicyRequested(
        tenant="acme", name="main", workload=Workload.MAILBOX, mode=AvailabilityMode.NONE, keys=ROOTS
    )

    with pytest.raises(CustodianSilent):
        await pump.ask(wanted)
