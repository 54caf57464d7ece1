"""Open a policy key by its availability key, once that is allowed: audited first, never silent.

The entry is durable before the provider's vault is called; if it can't be written, the call is refused (law 15).
"""

import asyncio

from sqlalchemy.exc import SQLAlchemyError

from schemas.identifiers import Slot
from twinlock.custody.audit.entries import entry
from twinlock.custody.audit.log import AuditLog
from twinlock.custody.errors import KeyRefused
from twinlock.custody.guards import Guards
from twinlock.custody.operations import Operation
from twinlock.custody.policies import Policy
from twinlock.custody.port import Asker
from twinlock.custody.rows import StoredPolicyKey
from twinlock.custody.unwrap import unwrap_verified
from twinlock.keys.ports import Denied, Vault, VaultFailure
from twinlock.keys.secret import SecretKey


class AvailabilityKeys:
    """Use the availability keys in the provider's own vault, which is also the witness of law 5."""

    def __init__(self, vault: Vault, guards: Guards, audit: AuditLog, deadline: float) -> None:
        self._vault = vault
        self._guards = guards
        self._audit = audit
        self._deadline = deadline

    async def unwrap(self, stored: StoredPolicyKey) -> SecretKey | VaultFailure:
        """Return the policy key, or how the provider's vault failed; only after `announce`."""
        wrapped = stored.copies[Slot.AVAILABILITY]
        try:
            with self._guards.around(wrapped.uri, stored.account, Operation.UNWRAP):
                return await unwrap_verified(self._vault, wrapped, stored, Slot.AVAILABILITY, self._deadline)
        except VaultFailure as failure:
            return failure

    async def announce(self, policy: Policy, stored: StoredPolicyKey, reason: str, asker: Asker) -> None:
        """Return when the entry for one use is durable; KeyRefused if it can't be written."""
        try:
            await self._audit.record(
                entry(
                    "availability-key-asked",
                    asker,
                    tenant_id=policy.tenant_id,
                    policy_id=policy.id,
                    policy_key_generation=stored.generation,
                    uri=stored.copies[Slot.AVAILABILITY].uri,
                    reason=reason,
                )
            )
        except (SQLAlchemyError, OSError) as fault:
            raise KeyRefused(
                f"policy {policy} refuses: no audit entry can be written, so its availability key stays unused",
                policy=policy.id,
                hint="check the database",
            ) from fault

    async def answers(self, stored: StoredPolicyKey) -> bool:
        """Say whether the provider's own vault answers this process: then the outage is not ours.

        A destroyed key is an answer too; anything vague is none.
        """
        copy = stored.copies.get(Slot.AVAILABILITY)
        if copy is None:
            return False
        try:
            with self._guards.around(copy.uri, stored.account, Operation.DESCRIBE):
                async with asyncio.timeout(self._deadline):
                    await self._vault.describe(copy.uri)
        except Denied:
            return True
        except (VaultFailure, TimeoutError):
            return False
        return True
