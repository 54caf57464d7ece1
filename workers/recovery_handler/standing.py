"""What must hold for a recovery, looked at afresh when it is requested and again when it is carried out.

The old root keys must not be able to answer: a recovery is for keys that are lost, and no way around a customer who
still has them. Nor may it be our own fault, or a passing one, that they don't.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import select

from schemas.identifiers import AvailabilityMode, PolicyState
from twinlock.approvals.errors import Refused
from twinlock.approvals.statement import NewKey
from twinlock.custody.decision import ROOT_SLOTS, AvailabilityKeyState
from twinlock.custody.lifecycle.recovery import no_availability_key
from twinlock.custody.policies import Policy
from twinlock.custody.port import Asker, Probe, Recovering, RootAnswer
from twinlock.custody.rows import read_availability_state, read_generations
from twinlock.keys.ports import Outcome
from twinlock.store.tables.custody import root_keys
from twinlock.store.unit import Reader, Store
from workers.dep_assigner.checks import FailedCheck, check_key, check_pair

_LOST = (Outcome.DENIED, Outcome.CORRUPT)
_INSTEAD = {
    Outcome.OK: "it unwraps: nothing is lost",
    Outcome.UNAVAILABLE: "its vault does not answer, which says nothing about the key",
    Outcome.MISCONFIGURED: "our own access to it is wrong",
    Outcome.UNCLEAR: "it can't be told yet why it does not answer",
}
_FIX = {
    Outcome.OK: "use it: twinlock policy refresh, once it has a new version",
    Outcome.UNAVAILABLE: "ask again when its vault answers",
    Outcome.MISCONFIGURED: "mend our access first: twinlock key probe",
    Outcome.UNCLEAR: "find out first: twinlock key probe",
}


class BadKeys(Refused):
    """Refuse new root keys, with every check that failed."""

    def __init__(self, failed: Sequence[FailedCheck]) -> None:
        super().__init__("; ".join(map(str, failed))[:1000], hint="every check that failed is listed")
        self.failed = failed


@dataclass(frozen=True, slots=True)
class Standing:
    """Look whether a policy may be recovered onto new root keys."""

    store: Store
    recovering: Recovering

    async def check(
        self, policy: Policy, uris: tuple[str, str], although_revoked: bool, asker: Asker
    ) -> tuple[NewKey, NewKey]:
        """Return the new root keys as they are now; raise `Refused` with what stands against it."""
        async with self.store.read() as reader:
            await _refuse_policy(reader, policy, although_revoked)
            roots = select(root_keys.c.identity).where(root_keys.c.policy_id == policy.id)
            old = [row.identity for row in await reader.rows(roots)]
        refuse_answering(policy, await self.recovering.examine(policy.id, asker))
        probes = await self._probe(uris, asker)
        failed = [*check_pair(uris), *(fault for probe in probes for fault in (*check_key(probe), *_old(probe, old)))]
        if failed:
            raise BadKeys(failed)
        first, second = (_named(slot.value, probe) for slot, probe in zip(ROOT_SLOTS, probes, strict=True))
        return first, second

    async def _probe(self, uris: tuple[str, str], asker: Asker) -> list[Probe]:
        async with asyncio.TaskGroup() as group:
            probes = [group.create_task(self.recovering.probe(uri, asker)) for uri in uris]
        return [probe.result() for probe in probes]


def refuse_answering(policy: Policy, answers: Iterable[RootAnswer]) -> None:
    """Raise `Refused` unless both root keys are denied for good or damaged, as far as anybody can tell."""
    for answer in answers:
        if answer.outcome not in _LOST:
            raise Refused(
                f"root key {answer.slot} of policy {policy} ({answer.uri}) is not lost: {_INSTEAD[answer.outcome]}",
                hint=_FIX[answer.outcome],
            )


async def _refuse_policy(reader: Reader, policy: Policy, although_revoked: bool) -> None:
    if policy.mode is AvailabilityMode.NONE:
        raise Refused(
            f"policy {policy} has no availability key: its mode is none, and there is no recovery",
            hint="enable a root key in its vault again: without one the data is lost",
        )
    if policy.state is PolicyState.REVOKED and not although_revoked:
        raise Refused(
            f"policy {policy} is revoked, and a recovery would not lift that",
            hint="restore it first, or have approvers sign for it all the same: --although-revoked",
        )
    if policy.state not in (PolicyState.ACTIVE, PolicyState.REVOKED):
        raise Refused(f"policy {policy} is {policy.state.value}", hint="what is purged can't be recovered")
    states = [await read_availability_state(reader, each) for each in await read_generations(reader, policy)]
    if any(state is not AvailabilityKeyState.PRESENT for state in states):
        missing = no_availability_key(policy)
        raise Refused(missing.detail, hint=missing.hint)


def _old(probe: Probe, identities: Sequence[str]) -> Sequence[FailedCheck]:
    described = probe.description
    if described is None or not any(described.is_key(identity) for identity in identities):
        return []
    return [FailedCheck("new-key", probe.uri, "it is a root key of this policy already; use a new one")]


def _named(slot: str, probe: Probe) -> NewKey:
    assert probe.description is not None  # noqa: S101  # its round trip succeeded
    return NewKey(slot, probe.uri, probe.description.version, probe.description.fingerprint)
