"""Rewrap container keys from the policy keys they are under onto another: a *root* unwrap of each, now (law 6).

What is cached does not count here, however it was opened: a revoked policy must not be emptied into another one.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from schemas.identifiers import PolicyState
from twinlock.custody.attempt import Attempts, Lent
from twinlock.custody.audit.entries import of_containers
from twinlock.custody.audit.log import AuditEntry, AuditLog
from twinlock.custody.containers import open_wrapped, read_wrapped, wrap_under
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
            await self.audit.record(of_containers(_REFUSED, refs, no.policy, asker, reason=no.detail, heard=no.heard))
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
        opened: dict[_Name, Lent] = {}
        try:
            await self._open_all(views, opened, asker)
            name = (target.policy.id, target.stored.generation)
            keys = {each: lent.key for each, lent in opened.items()}
            rewrapped = await asyncio.to_thread(_rewrap_all, stored, keys, name)
        finally:
            wipe(*(lent.key for lent in opened.values()))
        await self.audit.record(*(_moved(stored, name, lent, target_policy_id, asker) for name, lent in opened.items()))
        return rewrapped

    async def _open_all(self, views: Mapping[_Name, View], opened: dict[_Name, Lent], asker: Asker) -> None:
        until = self.clock.monotonic() + asker.deadline
        for name, view in views.items():
            if view.policy.state is not PolicyState.ACTIVE:
                raise refused(view.policy, view.decide(asker, view.standing.outcomes))
            opened[name] = await self.attempts.fresh_root_key(view, asker, until)


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


def _moved(stored: Sequence[WrappedContainerKey], name: _Name, lent: Lent, target: str, asker: Asker) -> AuditEntry:
    """Tell what this policy's key was opened for: as a source it names its containers, as the target all of them."""
    policy_id, generation = name
    touched = [each.ref for each in stored if policy_id in (each.policy_id, target)]
    how = {"policy_key_generation": generation, "slot": lent.slot, "heard": lent.heard}
    return of_containers("containers-rewrapped", touched, policy_id, asker, target=target, **how)
