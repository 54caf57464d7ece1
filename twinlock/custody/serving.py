"""Hand out container keys, each with its audit entry durable first (law 15)."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from twinlock.custody.attempt import Lent
from twinlock.custody.audit.entries import entry, of_containers
from twinlock.custody.audit.log import AuditEntry, AuditLog, Scalar
from twinlock.custody.containers import StoredContainerKeys, open_wrapped, wrap_under
from twinlock.custody.errors import CustodyError, KeyNotYet
from twinlock.custody.observing import Observer
from twinlock.custody.opening import PolicyKeyOpener
from twinlock.custody.port import USER, Asker, ContainerRef, OpenedKey, WrappedContainerKey
from twinlock.custody.settings import CustodySettings
from twinlock.custody.wiping import wiped_on_failure
from twinlock.keys.errors import DecryptionError
from twinlock.keys.secret import SecretKey

_AT_A_TIME = 50  # keys made with one loan of the policy key: nobody else gets a turn meanwhile


@dataclass(frozen=True, slots=True)
class ContainerKeys:
    """Open and make container keys."""

    stored: StoredContainerKeys
    opener: PolicyKeyOpener
    audit: AuditLog
    settings: CustodySettings
    observer: Observer

    async def open(self, ref: ContainerRef, asker: Asker) -> OpenedKey:
        """Open a container key by the decision table.

        Raise KeyRefused or KeyNotYet, GenerationGone if the row is gone, DecryptionError if it is not what was stored.
        """
        stored = await self.stored.read(ref)
        try:
            lent = await self.opener.open(stored.policy_id, stored.policy_key_generation, asker)
        except CustodyError as no:
            self.observer.not_served("not-yet" if isinstance(no, KeyNotYet) else "refused")
            await self.audit.record(_not_served(ref, stored.policy_id, no, asker))
            raise
        key = await self._unwrap(lent, stored, asker)
        with wiped_on_failure(key):
            if self._is_recorded(lent, asker):
                await self.audit.record(_served("container-key-opened", ref, stored.policy_id, lent, asker))
        self.observer.served(lent.opened_by.value, lent.source)
        return OpenedKey(ref, key, self._keep(lent), lent.by_availability_key)

    async def make(self, refs: Sequence[ContainerRef], policy_id: str, asker: Asker) -> Sequence[WrappedContainerKey]:
        """Make container keys under the newest policy key, which a root key must have opened (law 6)."""
        made: list[WrappedContainerKey] = []
        entries: list[AuditEntry] = []
        for start in range(0, len(refs), _AT_A_TIME):
            part = refs[start : start + _AT_A_TIME]
            lent = await self._for_making(refs, policy_id, asker)
            with lent as policy_key:
                made += [_make(policy_key, ref, policy_id, lent.generation) for ref in part]
            entries.append(of_containers("container-keys-made", part, policy_id, asker, **_how(lent)))
        await self.audit.record(*entries)
        return made

    async def _for_making(self, refs: Sequence[ContainerRef], policy_id: str, asker: Asker) -> Lent:
        try:
            return await self.opener.open(policy_id, None, asker, root_only=True)
        except CustodyError as no:
            kind = "container-keys-not-made"
            await self.audit.record(of_containers(kind, refs, policy_id, asker, reason=no.detail, heard=no.heard))
            raise

    async def _unwrap(self, lent: Lent, stored: WrappedContainerKey, asker: Asker) -> SecretKey:
        try:
            with lent as policy_key:
                return open_wrapped(policy_key, stored)
        except DecryptionError:
            await self.audit.record(_served("container-key-damaged", stored.ref, stored.policy_id, lent, asker))
            raise

    def _is_recorded(self, lent: Lent, asker: Asker) -> bool:
        plain = lent.source == "cache" and not lent.by_availability_key and not lent.once
        if not plain or asker.initiator != USER:
            return True
        # Nobody can tell which read goes without.
        return secrets.randbelow(self.settings.audit_one_read_in) == 0

    def _keep(self, lent: Lent) -> float:
        return 0.0 if lent.once else self.settings.keep_seconds


def _make(policy_key: SecretKey, ref: ContainerRef, policy_id: str, generation: int) -> WrappedContainerKey:
    key = SecretKey.generate()
    try:
        return wrap_under(policy_key, key, ref, policy_id, generation)
    finally:
        key.wipe()


def _served(kind: str, ref: ContainerRef, policy_id: str, lent: Lent, asker: Asker) -> AuditEntry:
    return entry(
        kind,
        asker,
        tenant_id=ref.tenant_id,
        policy_id=policy_id,
        container=ref.container_id,
        generation=ref.generation,
        **_how(lent),
    )


def _how(lent: Lent) -> dict[str, Scalar]:
    return {
        "policy_key_generation": lent.generation,
        "opened_by": lent.opened_by.value,
        "slot": lent.slot,
        "heard": lent.heard,
        "source": lent.source,
    }


def _not_served(ref: ContainerRef, policy_id: str, no: CustodyError, asker: Asker) -> AuditEntry:
    return entry(
        "container-key-not-yet" if isinstance(no, KeyNotYet) else "container-key-refused",
        asker,
        tenant_id=ref.tenant_id,
        policy_id=policy_id,
        container=ref.container_id,
        generation=ref.generation,
        reason=no.detail,
        heard=no.heard,
    )
