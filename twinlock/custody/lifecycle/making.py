"""Make a policy key generation: a fresh key under two root keys and, unless the mode forbids, an availability key."""

import asyncio
from dataclasses import dataclass

from schemas.identifiers import AvailabilityMode, Slot
from twinlock.custody.audit.entries import entry
from twinlock.custody.audit.log import AuditEntry, AuditLog
from twinlock.custody.calls import VaultCalls
from twinlock.custody.decision import ROOT_SLOTS
from twinlock.custody.guards import Guards
from twinlock.custody.operations import Account, Operation
from twinlock.custody.port import Asker, MadePolicyKey, PolicyKeyOrder
from twinlock.custody.rows import StoredPolicyKey
from twinlock.custody.settings import CustodySettings
from twinlock.custody.unwrap import Vaults, no_answer
from twinlock.keys.ports import AvailabilityVault, KeyDescription, Vault, VaultFailure, WrappedKey
from twinlock.keys.secret import SecretKey


@dataclass(frozen=True, slots=True)
class PolicyKeyMaker:
    """Make policy keys; nothing of them is stored here, and the key itself is wiped before the return."""

    vaults: Vaults
    availability: AvailabilityVault
    guards: Guards
    audit: AuditLog
    settings: CustodySettings

    async def make(self, order: PolicyKeyOrder, asker: Asker, availability_uri: str) -> MadePolicyKey:
        """Make a generation, every copy verified by unwrapping it; raise a `VaultFailure` as the vault gave it."""
        # Before any vault is called, the provider's above all (law 15).
        await self.audit.record(_ordered(order, asker))
        key = SecretKey.generate()
        try:
            made = await self._wrap_all(
                order, key, availability_uri, asyncio.get_running_loop().time() + asker.deadline
            )
        except VaultFailure as failure:
            await self.audit.record(_failed(order, failure, asker))
            raise
        finally:
            key.wipe()
        await self.audit.record(
            entry(
                "policy-key-made",
                asker,
                tenant_id=order.tenant_id,
                policy_id=order.policy_id,
                policy_key_generation=order.generation,
                commitment=made.commitment.hex(),
                keys=[copy.uri for _, copy in made.copies],
                versions=[copy.version for _, copy in made.copies],
            )
        )
        return made

    async def _wrap_all(
        self, order: PolicyKeyOrder, key: SecretKey, availability_uri: str, until: float
    ) -> MadePolicyKey:
        stored = StoredPolicyKey(order.tenant_id, order.policy_id, order.generation, key.commitment(), {})
        copies: list[tuple[Slot, WrappedKey]] = []
        roots: list[KeyDescription] = []
        for slot, uri in zip(ROOT_SLOTS, order.root_uris, strict=True):
            calls = self._calls(self.vaults.of(uri), uri, stored.account, until)
            wrapped, description = await calls.wrap_described(key, stored, slot)
            copies.append((slot, wrapped))
            roots.append(description)
        if order.mode is not AvailabilityMode.NONE:
            copies.append((Slot.AVAILABILITY, await self._availability_copy(availability_uri, key, stored, until)))
        return MadePolicyKey(stored.commitment, tuple(copies), (roots[0], roots[1]))

    async def _availability_copy(self, uri: str, key: SecretKey, stored: StoredPolicyKey, until: float) -> WrappedKey:
        try:
            with self.guards.around(uri, stored.account, Operation.CREATE):
                async with asyncio.timeout_at(until):
                    await self.availability.create(uri)
        except TimeoutError:
            raise no_answer(uri, self.settings.vault_deadline) from None
        calls = self._calls(self.availability, uri, stored.account, until)
        return await calls.wrap(key, stored, Slot.AVAILABILITY)

    def _calls(self, vault: Vault, uri: str, account: Account, until: float) -> VaultCalls:
        return VaultCalls(vault, uri, self.guards, account, self.settings.vault_deadline, until)


def _ordered(order: PolicyKeyOrder, asker: Asker) -> AuditEntry:
    return entry(
        "policy-key-ordered",
        asker,
        tenant_id=order.tenant_id,
        policy_id=order.policy_id,
        policy_key_generation=order.generation,
        mode=order.mode.value,
        keys=list(order.root_uris),
    )


def _failed(order: PolicyKeyOrder, failure: VaultFailure, asker: Asker) -> AuditEntry:
    return entry(
        "policy-key-not-made",
        asker,
        tenant_id=order.tenant_id,
        policy_id=order.policy_id,
        policy_key_generation=order.generation,
        uri=failure.uri,
        outcome=failure.outcome.value,
        answer=failure.detail,
    )
