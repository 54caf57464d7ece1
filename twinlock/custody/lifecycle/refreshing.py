"""Rewrap a policy key under the newest versions of its root keys, without ever trusting a new key for an old one.

One root key must unwrap now (law 6). A new version of a key is taken only where the version that is pinned still
unwraps and the identity is the pinned one (law 1): whoever deletes a key and makes another under its name gets nothing.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select

from schemas.identifiers import PolicyState, Slot
from twinlock.custody.attempt import Attempts
from twinlock.custody.audit.entries import entry
from twinlock.custody.audit.log import AuditLog, Scalar
from twinlock.custody.calls import VaultCalls
from twinlock.custody.decision import ROOT_SLOTS
from twinlock.custody.errors import CustodyError, KeyRefused
from twinlock.custody.guards import Guards
from twinlock.custody.health.verdicts import heard_from
from twinlock.custody.policies import Policy
from twinlock.custody.port import Asker, MadePolicyKey
from twinlock.custody.refusing import needs_root, refused
from twinlock.custody.settings import CustodySettings
from twinlock.custody.unwrap import SlotAsker, Unwrapped, Vaults
from twinlock.custody.view import View
from twinlock.custody.wiping import wipe
from twinlock.keys.ports import KeyDescription, VaultFailure, WrappedKey
from twinlock.keys.secret import SecretKey
from twinlock.store.tables.custody import root_key_pins
from twinlock.store.unit import Store


@dataclass(frozen=True, slots=True)
class _Work:
    view: View
    key: SecretKey
    answered: frozenset[Slot]
    pins: Mapping[tuple[Slot, str], str]  # fingerprint of each pinned version
    until: float


class PolicyKeyRefresher:
    """Rewrap policy keys; nothing is stored here, and the key itself is wiped before the return."""

    def __init__(
        self,
        store: Store,
        vaults: Vaults,
        settings: CustodySettings,
        guards: Guards,
        slots: SlotAsker,
        attempts: Attempts,
        audit: AuditLog,
    ) -> None:
        self._store = store
        self._vaults = vaults
        self._settings = settings
        self._guards = guards
        self._slots = slots
        self._attempts = attempts
        self._audit = audit

    async def refresh(self, policy_id: str, asker: Asker) -> MadePolicyKey:
        """Return the newest generation with a verified copy for each new version; unchanged slots keep their copy.

        Raise KeyRefused, or a `VaultFailure` as the vault gave it.
        """
        view = await self._attempts.load(policy_id, None)
        try:
            made, how = await self._refresh(view, asker)
        except (CustodyError, VaultFailure) as no:
            heard = no.heard if isinstance(no, CustodyError) else None
            await self._record("policy-key-rewrap-refused", view, asker, reason=no.detail, heard=heard)
            raise
        copies = [copy for _, copy in made.copies]
        about = {"keys": [copy.uri for copy in copies], "versions": [copy.version for copy in copies]}
        await self._record("policy-key-rewrapped", view, asker, **about, **how)
        return made

    async def _refresh(self, view: View, asker: Asker) -> tuple[MadePolicyKey, Mapping[str, Scalar]]:
        until = asyncio.get_running_loop().time() + asker.deadline
        if view.policy.state is not PolicyState.ACTIVE:
            raise refused(view.policy, view.decide(asker, view.standing.outcomes))
        a, b = await self._slots.ask_both(view.stored)
        try:
            key = await self._root_key(view, a, b, asker)
            answered = frozenset(found.slot for found in (a, b) if found.slot is not None)
            made = await self._rewrap(_Work(view, key, answered, await self._pins(view.policy.id), until))
            return made, {"slot": a.slot or b.slot, "heard": heard_from(a.verdicts + b.verdicts)}
        finally:
            wipe(a.key, b.key)

    async def _root_key(self, view: View, a: Unwrapped, b: Unwrapped, asker: Asker) -> SecretKey:
        found = Unwrapped(a.key or b.key, a.slot or b.slot, a.verdicts + b.verdicts)
        view = await self._attempts.learn(view.stored, found, asker.cause)
        decision = view.decide(asker, view.standing.now(found.verdicts), root_only=True)
        if found.key is None or view.policy.state is not PolicyState.ACTIVE:
            raise needs_root(view.policy, decision, found.verdicts)
        return found.key

    async def _pins(self, policy_id: str) -> Mapping[tuple[Slot, str], str]:
        async with self._store.read() as reader:
            rows = await reader.rows(select(root_key_pins).where(root_key_pins.c.policy_id == policy_id))
        return {(Slot(row.slot), row.version): row.fingerprint for row in rows}

    async def _rewrap(self, work: _Work) -> MadePolicyKey:
        stored = work.view.stored
        (copy_a, root_a), (copy_b, root_b) = [await self._slot(work, slot) for slot in ROOT_SLOTS]
        copies = {**stored.copies, Slot.A: copy_a, Slot.B: copy_b}
        return MadePolicyKey(stored.commitment, tuple(copies.items()), (root_a, root_b))

    async def _slot(self, work: _Work, slot: Slot) -> tuple[WrappedKey, KeyDescription]:
        policy, old = work.view.policy, work.view.stored.copies[slot]
        vault, deadline = self._vaults.of(old.uri), self._settings.vault_deadline
        calls = VaultCalls(vault, old.uri, self._guards, work.view.stored.account, deadline, work.until)
        newest = await calls.describe()
        await _check_pin(calls, policy, slot, (old, newest), work)
        if newest.version == old.version:
            return old, newest
        if slot not in work.answered:
            raise _unproven(policy, slot, old, newest)
        wrapped, used = await calls.wrap_described(work.key, work.view.stored, slot)
        await _check_pin(calls, policy, slot, (old, used), work)
        # The newest version may be disabled: then the vault wrapped under the old one, whose copy is good already.
        return (old, used) if used.version == old.version else (wrapped, used)

    async def _record(self, kind: str, view: View, asker: Asker, **detail: Scalar | Sequence[Scalar]) -> None:
        await self._audit.record(
            entry(
                kind,
                asker,
                tenant_id=view.policy.tenant_id,
                policy_id=view.policy.id,
                policy_key_generation=view.stored.generation,
                **detail,
            )
        )


async def _check_pin(
    calls: VaultCalls, policy: Policy, slot: Slot, found: tuple[WrappedKey, KeyDescription], work: _Work
) -> None:
    old, described = found
    pinned = work.pins.get((slot, described.version), described.fingerprint)
    if described.fingerprint == pinned and await calls.is_key(described, old):
        return
    raise KeyRefused(
        f"root key {slot} of policy {policy} is not the key that was pinned: it was made again under its name",
        policy=policy.id,
        hint="restore the old key in its vault, or request a recovery onto the new one",
    )


def _unproven(policy: Policy, slot: Slot, old: WrappedKey, newest: KeyDescription) -> KeyRefused:
    return KeyRefused(
        f"root key {slot} of policy {policy} is at version {newest.version}, but version {old.version} does not unwrap",
        policy=policy.id,
        hint=f"enable version {old.version} until the refresh is done, or request a recovery",
    )
