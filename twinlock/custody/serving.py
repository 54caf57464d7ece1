"""Hand out container keys, each with its audit entry durable first (law 15)."""

from dataclasses import dataclass

from twinlock.custody.attempt import Lent
from twinlock.custody.audit import AuditEntry, AuditLog
from twinlock.custody.containers import open_wrapped, read_wrapped, wrap_under
from twinlock.custody.entries import entry
from twinlock.custody.errors import CustodyError, KeyNotYet
from twinlock.custody.opening import PolicyKeyOpener
from twinlock.custody.port import Asker, ContainerRef, MadeContainerKey, OpenedKey, WrappedContainerKey
from twinlock.custody.settings import CustodySettings
from twinlock.custody.wiping import wiped_on_failure
from twinlock.keys.errors import DecryptionError
from twinlock.keys.secret import SecretKey
from twinlock.store.unit import Store


@dataclass(frozen=True, slots=True)
class ContainerKeys:
    """Open and make container keys."""

    store: Store
    opener: PolicyKeyOpener
    audit: AuditLog
    settings: CustodySettings

    async def open(self, ref: ContainerRef, asker: Asker) -> OpenedKey:
        """Open a container key by the decision table.

        Raise KeyRefused or KeyNotYet, GenerationGone if the row is gone, DecryptionError if it is not what was stored.
        """
        async with self.store.read() as reader:
            (stored,) = await read_wrapped(reader, [ref])
        lent = await self._policy_key(ref, stored.policy_id, stored.policy_key_generation, asker)
        key = await self._unwrap(lent, stored, asker)
        with wiped_on_failure(key):
            await self.audit.record(_served("container-key-opened", ref, stored.policy_id, lent, asker))
        return OpenedKey(ref, key, self._keep(lent), lent.by_availability_key)

    async def make(self, ref: ContainerRef, policy_id: str, asker: Asker) -> MadeContainerKey:
        """Make a container key under the newest policy key, which a root key must have opened (law 6)."""
        lent = await self._policy_key(ref, policy_id, None, asker)
        key = SecretKey.generate()
        with lent as policy_key:
            stored = wrap_under(policy_key, key, ref, policy_id, lent.generation)
        with wiped_on_failure(key):
            await self.audit.record(_served("container-key-made", ref, policy_id, lent, asker))
        return MadeContainerKey(stored, OpenedKey(ref, key, self._keep(lent), by_availability_key=False))

    async def _policy_key(self, ref: ContainerRef, policy_id: str, generation: int | None, asker: Asker) -> Lent:
        try:
            return await self.opener.open(policy_id, generation, asker, root_only=generation is None)
        except CustodyError as no:
            await self.audit.record(_not_served(ref, policy_id, no, asker))
            raise

    async def _unwrap(self, lent: Lent, stored: WrappedContainerKey, asker: Asker) -> SecretKey:
        try:
            with lent as policy_key:
                return open_wrapped(policy_key, stored)
        except DecryptionError:
            await self.audit.record(_served("container-key-damaged", stored.ref, stored.policy_id, lent, asker))
            raise

    def _keep(self, lent: Lent) -> float:
        return 0.0 if lent.once else self.settings.keep_seconds


def _served(kind: str, ref: ContainerRef, policy_id: str, lent: Lent, asker: Asker) -> AuditEntry:
    return entry(
        kind,
        asker,
        tenant_id=ref.tenant_id,
        policy_id=policy_id,
        container=ref.container_id,
        generation=ref.generation,
        policy_key_generation=lent.generation,
        opened_by=lent.opened_by.value,
        slot=lent.slot,
        source=lent.source,
    )


def _not_served(ref: ContainerRef, policy_id: str, no: CustodyError, asker: Asker) -> AuditEntry:
    return entry(
        "container-key-not-yet" if isinstance(no, KeyNotYet) else "container-key-refused",
        asker,
        tenant_id=ref.tenant_id,
        policy_id=policy_id,
        container=ref.container_id,
        generation=ref.generation,
        reason=no.detail,
    )
