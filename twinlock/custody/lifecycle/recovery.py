"""Bring a policy key onto new root keys by its availability key: break-glass, for what two approvers have signed.

Every generation that is left is brought along, as containers may be under any of them, and the next one is made under
the same two root keys and an availability key of its own. Each old availability key goes on to open what it wrapped.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from schemas.identifiers import Slot
from twinlock.crashpoints import CrashPoint, reach
from twinlock.custody.audit.entries import entry
from twinlock.custody.audit.log import AuditLog
from twinlock.custody.availability import AvailabilityKeys
from twinlock.custody.calls import VaultCalls
from twinlock.custody.decision import ROOT_SLOTS, AvailabilityKeyState
from twinlock.custody.errors import KeyRefused
from twinlock.custody.guards import Guards
from twinlock.custody.lifecycle.making import PolicyKeyMaker
from twinlock.custody.policies import Policy
from twinlock.custody.port import Asker, MadePolicyKey, NewRoot, PolicyKeyOrder, Recovered, RecoveryOrder
from twinlock.custody.rows import (
    StoredPolicyKey,
    read_availability_state,
    read_generations,
    read_policy,
)
from twinlock.custody.settings import CustodySettings
from twinlock.custody.unwrap import Vaults
from twinlock.keys.ports import KeyDescription, VaultFailure, WrappedKey
from twinlock.keys.secret import SecretKey
from twinlock.store.unit import Store


@dataclass(frozen=True, slots=True)
class PolicyKeyRecoverer:
    """Recover policy keys; nothing is stored here, and each key is wiped before the return."""

    store: Store
    vaults: Vaults
    keys: AvailabilityKeys
    maker: PolicyKeyMaker
    guards: Guards
    audit: AuditLog
    settings: CustodySettings

    async def recover(self, order: RecoveryOrder, asker: Asker) -> Recovered:
        """Return all generations under the new root keys; raise KeyRefused, or a `VaultFailure` as it was given."""
        async with self.store.read() as reader:
            policy = await read_policy(reader, order.policy_id)
            generations = await read_generations(reader, policy)
            states = [await read_availability_state(reader, stored) for stored in generations]
        if any(state is not AvailabilityKeyState.PRESENT for state in states):
            raise no_availability_key(policy)
        until = asyncio.get_running_loop().time() + asker.deadline
        try:
            live = [(each.generation, await self._rewrap(policy, each, order, asker, until)) for each in generations]
            reach(CrashPoint.AFTER_NEW_COPIES)
            made = await self._next(policy, order, asker)
            reach(CrashPoint.AFTER_FRESH_KEY)
        except (KeyRefused, VaultFailure) as no:
            await self._record("recovery-failed", policy, order, asker, answer=no.detail)
            raise
        wrapped = [generation for generation, _ in live]
        versions = [root.version for root in made.roots]
        await self._record("policy-key-recovered", policy, order, asker, generations=wrapped, versions=versions)
        return Recovered(tuple(live), made)

    async def _rewrap(
        self, policy: Policy, stored: StoredPolicyKey, order: RecoveryOrder, asker: Asker, until: float
    ) -> MadePolicyKey:
        await self.keys.announce(policy, stored, f"recovery {order.request}", asker)
        key = await self.keys.unwrap(stored)
        if isinstance(key, VaultFailure):
            raise key
        reach(CrashPoint.AFTER_BREAK_GLASS)
        try:
            wrapped = [await self._wrap(key, stored, *each, until) for each in zip(ROOT_SLOTS, order.keys, strict=True)]
        finally:
            key.wipe()
        (copy_a, root_a), (copy_b, root_b) = wrapped
        copies = {**stored.copies, Slot.A: copy_a, Slot.B: copy_b}
        return MadePolicyKey(stored.commitment, tuple(copies.items()), (root_a, root_b))

    async def _wrap(
        self, key: SecretKey, stored: StoredPolicyKey, slot: Slot, root: NewRoot, until: float
    ) -> tuple[WrappedKey, KeyDescription]:
        vault, deadline = self.vaults.of(root.uri), self.settings.vault_deadline
        calls = VaultCalls(vault, root.uri, self.guards, stored.account, deadline, until)
        wrapped, used = await calls.wrap_described(key, stored, slot)
        _refuse_other(root, used, stored.policy_id)
        return wrapped, used

    async def _next(self, policy: Policy, order: RecoveryOrder, asker: Asker) -> MadePolicyKey:
        uris = (order.keys[0].uri, order.keys[1].uri)
        wanted = PolicyKeyOrder(policy.tenant_id, policy.id, policy.newest_generation + 1, policy.mode, uris)
        made = await self.maker.make(wanted, asker, self.settings.availability_uri(policy.id, order.request))
        for root, used in zip(order.keys, made.roots, strict=True):
            _refuse_other(root, used, policy.id)
        return made

    async def _record(
        self, kind: str, policy: Policy, order: RecoveryOrder, asker: Asker, **detail: str | Sequence[str | int]
    ) -> None:
        shared: dict[str, str | Sequence[str]] = {
            "request": order.request,
            "keys": [root.uri for root in order.keys],
        }
        await self.audit.record(
            entry(kind, asker, tenant_id=policy.tenant_id, policy_id=policy.id, **{**shared, **detail})
        )


def no_availability_key(policy: Policy) -> KeyRefused:
    """Say that there is nothing to recover by."""
    return KeyRefused(
        f"policy {policy} has no availability key that could open it",
        policy=policy.id,
        hint="enable a root key in its vault again: without one the data is lost",
    )


def _refuse_other(root: NewRoot, used: KeyDescription, policy_id: str) -> None:
    """Refuse a key that is not the one for which approvers have signed, down to its version."""
    if (used.version, used.fingerprint) != (root.version, root.fingerprint):
        raise KeyRefused(
            f"{root.uri} is at version {used.version}, and not the key that was approved (version {root.version})",
            policy=policy_id,
            hint="cancel the request, and make another for the key as it is now",
        )
