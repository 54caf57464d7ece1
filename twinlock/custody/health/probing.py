"""Check a root key live: get, wrap and unwrap, with random bytes that nothing else ever uses."""

import asyncio
from dataclasses import dataclass

from schemas.identifiers import Slot
from twinlock.custody.audit.entries import entry
from twinlock.custody.audit.log import AuditLog
from twinlock.custody.calls import VaultCalls
from twinlock.custody.guards import Guards
from twinlock.custody.operations import Account
from twinlock.custody.port import Asker, Probe
from twinlock.custody.rows import StoredPolicyKey
from twinlock.custody.settings import CustodySettings
from twinlock.custody.unwrap import Vaults
from twinlock.keys.ports import Clock, KeyDescription, Outcome, VaultFailure
from twinlock.keys.secret import SecretKey


@dataclass(frozen=True, slots=True)
class RootKeyProbe:
    """Probe root keys of any vault."""

    vaults: Vaults
    guards: Guards
    clock: Clock
    audit: AuditLog
    settings: CustodySettings

    async def probe(self, uri: str, asker: Asker) -> Probe:
        """Return what the key came to; a failure is an outcome, never an exception."""
        start = self.clock.monotonic()
        description: KeyDescription | None = None
        outcome, detail = Outcome.OK, ""
        try:
            until = asyncio.get_running_loop().time() + asker.deadline
            # A key that is only tried belongs to nobody yet: all of those share one budget.
            calls = VaultCalls(self.vaults.of(uri), uri, self.guards, Account(), self.settings.vault_deadline, until)
            description = await calls.describe()
            await _round_trip(calls)
        except VaultFailure as failure:
            outcome, detail = failure.outcome, failure.detail
        await self.audit.record(
            entry(
                "root-key-probed", asker, tenant_id=None, policy_id=None, uri=uri, outcome=outcome.value, answer=detail
            )
        )
        return Probe(uri, outcome, detail, self.clock.monotonic() - start, description)


async def _round_trip(calls: VaultCalls) -> None:
    key = SecretKey.generate()
    stored = StoredPolicyKey("probe", "probe", 0, key.commitment(), {})
    try:
        await calls.wrap(key, stored, Slot.A)
    finally:
        key.wipe()
