"""Rewrap container keys from the policy keys they are under onto another: a *root* unwrap of each, now (law 6).

What is cached does not count here, however it was opened: a revoked policy must not be emptied into another one.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from schemas.identifiers import PolicyState
from twinlock.custody.attempt import Attempts
from twinlock.custody.audit import AuditEntry, AuditLog
from twinlock.custody.containers import open_wrapped, read_wrapped, wrap_under
from twinlock.custody.entries import of_containers
from twinlock.custody.errors import CustodyError
from twinlock.custody.port import Asker, ContainerRef, WrappedContainerKey
from twinlock.custody.refusing import refused
from twinlock.custody.view import View
from twinlock.custody.wiping import wipe
from twinlock.keys.errors import DecryptionError
from twinlock.keys.ports import Clock
from twinlock.keys.secret import SecretKey
from twinlock.store.unit import Store

_REFUSED = "containers-rewrap-refused"
_Name = tuple[str, int]  # policy, generation of its key


@dataclass(frozen=True, slots=True)
class ContainerRewrapper:
    """Rewrap batches; nothing is stored here."""

    store: Store
    clock: Clock
    attempts: Attempts
    audit: AuditLog

    async def rewrap(
        self, refs: Sequence[ContainerRef], target_policy_id: str, asker: Asker
    ) -> Sequence[WrappedContainerKey]:
        """Return the keys wrapped under the target's newest policy key, in the order of `refs`.

        Raise KeyRefused or KeyNotYet, GenerationGone if a row is gone, DecryptionError if one is not what was stored.
        """
        if not refs:
            return ()
        async with self.store.read() as reader:
            stored = await read_wrapped(reader, refs)
        try:
            return await self._rewrap(stored, target_policy_id, asker)
        except CustodyError as no:
            await self.audit.record(of_containers(_REFUSED, refs, no.policy, asker, reason=no.detail))
            raise
        except DecryptionError:
            await self.audit.record(of_containers("containers-rewrap-damaged", refs, target_policy_id, asker))
            raise

    async def _rewrap(
        self, stored: Sequence[WrappedContainerKey], target_policy_id: str, asker: Asker
    ) -> Sequence[WrappedContainerKey]:
        target = await self.attempts.load(target_policy_id, None)
        views = {(target.policy.id, target.stored.generation): target}
        for policy_id, generation in {(each.policy_id, each.policy_key_generation) for each in stored} - views.keys():
            views[policy_id, generation] = await self.attempts.load(policy_id, generation)
        keys: dict[_Name, SecretKey] = {}
        try:
            await self._open_all(views, keys, asker)
            name = (target.policy.id, target.stored.generation)
            rewrapped = await asyncio.to_thread(_rewrap_all, stored, keys, name)
        finally:
            wipe(*keys.values())
        await self.audit.record(*(_moved(stored, view, target_policy_id, asker) for view in views.values()))
        return rewrapped

    async def _open_all(self, views: Mapping[_Name, View], keys: dict[_Name, SecretKey], asker: Asker) -> None:
        until = self.clock.monotonic() + asker.deadline
        for name, view in views.items():
            if view.policy.state is not PolicyState.ACTIVE:
                raise refused(view.policy, view.decide(asker, view.standing.outcomes))
            keys[name] = await self.attempts.fresh_root_key(view, asker, until)


def _rewrap_all(
    stored: Sequence[WrappedContainerKey], keys: Mapping[_Name, SecretKey], target: _Name
) -> list[WrappedContainerKey]:
    return [_rewrap_one(each, keys, target) for each in stored]


def _rewrap_one(each: WrappedContainerKey, keys: Mapping[_Name, SecretKey], target: _Name) -> WrappedContainerKey:
    key = open_wrapped(keys[each.policy_id, each.policy_key_generation], each)
    try:
        return wrap_under(keys[target], key, each.ref, *target)
    finally:
        key.wipe()


def _moved(stored: Sequence[WrappedContainerKey], view: View, target: str, asker: Asker) -> AuditEntry:
    """Tell what this policy's key was opened for: as a source it names its containers, as the target all of them."""
    policy_id = view.policy.id
    touched = [each.ref for each in stored if policy_id in (each.policy_id, target)]
    return of_containers("containers-rewrapped", touched, policy_id, asker, target=target)
