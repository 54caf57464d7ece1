"""The second, smaller custodian: what `recovery_handler` alone does with availability keys, in its own process."""

import asyncio

from sqlalchemy import select

from schemas.identifiers import PROVIDER
from twinlock.custody.audit.entries import entry
from twinlock.custody.audit.log import AuditLog
from twinlock.custody.availability import AvailabilityKeys
from twinlock.custody.errors import KeyRefused
from twinlock.custody.guards import Guards, on_behalf_of
from twinlock.custody.health.probing import RootKeyProbe
from twinlock.custody.lifecycle.making import PolicyKeyMaker
from twinlock.custody.lifecycle.recovery import PolicyKeyRecoverer
from twinlock.custody.observing import Observer
from twinlock.custody.operations import Account, Operation
from twinlock.custody.policies import Policy
from twinlock.custody.port import Asker, Probe, Recovered, RecoveryOrder, RootAnswer
from twinlock.custody.revocation.mark import RestoreGuard
from twinlock.custody.rows import StoredPolicyKey, read_policy, read_policy_key
from twinlock.custody.settings import CustodySettings
from twinlock.custody.unwrap import SlotAsker, Unwrapped, Vaults, no_answer
from twinlock.custody.view import learn
from twinlock.custody.wiping import wipe
from twinlock.keys.ports import Clock, DestroyingVault, Destruction
from twinlock.keys.uris import name_of
from twinlock.store.tables.custody import policies
from twinlock.store.unit import Reader, Store


class LocalRecovering:
    """Be `Recovering`. It serves no container key and caches no policy key, so that no epoch binds it (law 8)."""

    def __init__(
        self,
        store: Store,
        vaults: Vaults,
        availability: DestroyingVault,
        audit: AuditLog,
        clock: Clock,
        *,
        settings: CustodySettings | None = None,
        guard: RestoreGuard | None = None,
        observer: Observer | None = None,
    ) -> None:
        settings = settings or CustodySettings()
        guards = Guards(clock, settings.guards, observer)
        keys = AvailabilityKeys(availability, guards, audit, settings.vault_deadline)
        maker = PolicyKeyMaker(vaults, availability, guards, audit, settings)
        self._store = store
        self._guard = guard
        self._availability = availability
        self.audit = audit
        self._guards = guards
        self._settings = settings
        self._slots = SlotAsker(vaults, clock, settings.vault_deadline, guards=guards)
        self._probe = RootKeyProbe(vaults, guards, clock, audit, settings)
        self._recoverer = PolicyKeyRecoverer(store, vaults, keys, maker, guards, audit, settings)

    async def probe(self, uri: str, asker: Asker) -> Probe:
        """Check a root key live."""
        with on_behalf_of(asker):
            return await self._probe.probe(uri, asker)

    async def examine(self, policy_id: str, asker: Asker) -> tuple[RootAnswer, RootAnswer]:
        """Have both root keys unwrap now; the policy key itself is of no use here and wiped."""
        await self.refuse_restored()
        async with self._store.read() as reader:
            policy = await read_policy(reader, policy_id)
            stored = await read_policy_key(reader, policy, policy.newest_generation)
        with on_behalf_of(asker):
            a, b = await self._slots.ask_both(stored)
        wipe(a.key, b.key)
        heard = Unwrapped(None, a.slot or b.slot, a.verdicts + b.verdicts)
        await learn(self._store, stored, heard, asker.cause, self._settings.evidence)
        first, second = (_answer(stored, found) for found in (a, b))
        return first, second

    async def recover(self, order: RecoveryOrder, asker: Asker) -> Recovered:
        """Open a policy's keys by its availability keys and wrap them under new root keys."""
        await self.refuse_restored()
        with on_behalf_of(asker):
            return await self._recoverer.recover(order, asker)

    async def destroy_availability_key(self, policy_id: str, uri: str, asker: Asker) -> Destruction:
        """Destroy an availability key for good."""
        await self.refuse_restored()
        async with self._store.read() as reader:
            policy = await read_policy(reader, policy_id)
            if not self._settings.is_availability_uri(policy_id, uri) and not await self._is_left(reader, policy, uri):
                # A row that somebody moved must not end what another policy hangs on.
                raise KeyRefused(f"{uri} is no availability key of policy {policy_id}", policy=policy_id)
        about = {"tenant_id": policy.tenant_id, "policy_id": policy.id}
        await self.audit.record(entry("availability-key-destruction", asker, **about, uri=uri))
        deadline = self._settings.vault_deadline
        try:
            with on_behalf_of(asker), self._guards.around(uri, Account(policy.tenant_id, policy.id), Operation.DESTROY):
                async with asyncio.timeout(deadline):
                    destruction = await self._availability.destroy(uri)
        except TimeoutError:
            raise no_answer(uri, deadline) from None
        final = destruction.is_final
        await self.audit.record(entry("availability-key-destroyed", asker, **about, uri=uri, final=final))
        return destruction

    async def _is_left(self, reader: Reader, policy: Policy, uri: str) -> bool:
        """Say whether a key was left to the provider by a removed tenant: no policy is there that it could be of."""
        if policy.tenant != PROVIDER or not name_of(uri).startswith("availability-"):
            return False
        known = await reader.rows(select(policies.c.id))
        return not any(self._settings.is_availability_uri(row.id, uri) for row in known)

    async def refuse_restored(self) -> None:
        """Raise where the database is an older one: it may have forgotten that an approval was used or cancelled."""
        if self._guard is not None:
            async with self._store.read() as reader:
                await self._guard.check(reader)

    async def count_operations(self) -> None:
        """Write down how often vaults were called since the last time."""
        await self._guards.tally.flush(self._store)


def _answer(stored: StoredPolicyKey, found: Unwrapped) -> RootAnswer:
    (verdict,) = found.verdicts
    copy = stored.copies.get(verdict.slot)
    return RootAnswer(verdict.slot, "" if copy is None else copy.uri, verdict.outcome, verdict.detail)
