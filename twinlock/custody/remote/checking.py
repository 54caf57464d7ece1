"""Does a custodian's answer fit what was asked, and what is stored?"""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select, tuple_

from schemas.identifiers import AvailabilityMode, Slot
from twinlock.custody.errors import GenerationGone, WrongAnswer
from twinlock.custody.port import ContainerRef, MadePolicyKey, PolicyKeyOrder, WrappedContainerKey
from twinlock.custody.remote.messages import KeyOpened
from twinlock.keys.errors import DecryptionError
from twinlock.keys.secret import SecretKey
from twinlock.keys.wrap import WRAPPED_KEY_BYTES
from twinlock.store.tables.content import container_keys
from twinlock.store.tables.custody import policy_keys, root_keys
from twinlock.store.unit import Store

_COMMITMENT_BYTES = 32


def check_ref(answer: KeyOpened, ref: ContainerRef) -> None:
    """Raise `WrongAnswer` where another container's key was answered."""
    if answer.ref != ref:
        raise WrongAnswer("it is about another container")


def check_made(refs: Sequence[ContainerRef], policy_id: str, made: Sequence[WrappedContainerKey]) -> None:
    """Raise `WrongAnswer` unless these are keys made for what was asked, in order, under the policy."""
    if [(key.ref, key.policy_id) for key in made] != [(ref, policy_id) for ref in refs]:
        raise WrongAnswer("it is about other containers or another policy")
    for key in made:
        if (len(key.wrapped), len(key.commitment)) != (WRAPPED_KEY_BYTES, _COMMITMENT_BYTES):
            raise WrongAnswer("what is to be stored is no wrapped key")


def check_order(order: PolicyKeyOrder, made: MadePolicyKey) -> None:
    """Raise `WrongAnswer` where a policy key is not wrapped by what was ordered, and by nothing else."""
    slots = {Slot.A, Slot.B} | (set() if order.mode is AvailabilityMode.NONE else {Slot.AVAILABILITY})
    _check_copies(made, order.root_uris)
    if {slot for slot, _ in made.copies} != slots:
        raise WrongAnswer("its copies are not those that the mode asks for")


def _check_copies(made: MadePolicyKey, uris: tuple[str, ...]) -> None:
    copies = dict(made.copies)
    if len(copies) != len(made.copies) or len(made.commitment) != _COMMITMENT_BYTES:
        raise WrongAnswer("it is no policy key")
    if tuple(copies[slot].uri for slot in (Slot.A, Slot.B) if slot in copies) != uris:
        raise WrongAnswer("it is wrapped by other root keys")
    if tuple(root.uri for root in made.roots) != uris:
        raise WrongAnswer("it describes other root keys")


@dataclass(frozen=True, slots=True)
class Checks:
    """Compare answers with what is stored by now; the database is trusted."""

    store: Store

    async def opened(self, ref: ContainerRef, key: SecretKey) -> None:
        """Raise `DecryptionError` unless this is the key that was stored, `GenerationGone` if it is destroyed."""
        (stored,) = await self._commitments([ref])
        if not hmac.compare_digest(stored, key.commitment()):
            raise DecryptionError

    async def rewrapped(self, refs: Sequence[ContainerRef], target: str, keys: Sequence[WrappedContainerKey]) -> None:
        """Raise `WrongAnswer` unless these are the keys asked for, in order, under the target."""
        if [(key.ref, key.policy_id) for key in keys] != [(ref, target) for ref in refs]:
            raise WrongAnswer("it is about other containers or another policy")
        stored = await self._commitments(refs)
        for key, commitment in zip(keys, stored, strict=True):
            if len(key.wrapped) != WRAPPED_KEY_BYTES or not hmac.compare_digest(key.commitment, commitment):
                raise WrongAnswer("it is not the key that was stored")

    async def rewrapped_policy_key(self, policy_id: str, made: MadePolicyKey) -> None:
        """Raise `WrongAnswer` unless this is a key of the policy, wrapped by its root keys."""
        async with self.store.read() as reader:
            keys = await reader.rows(select(policy_keys.c.commitment).where(policy_keys.c.policy_id == policy_id))
            root = root_keys.c
            uris = await reader.rows(select(root.uri).where(root.policy_id == policy_id).order_by(root.slot))
        if made.commitment not in {row.commitment for row in keys}:
            raise WrongAnswer("it is no key of the policy")
        _check_copies(made, tuple(row.uri for row in uris))

    async def _commitments(self, refs: Sequence[ContainerRef]) -> list[bytes]:
        row = container_keys.c
        wanted = [(ref.container_id, ref.generation) for ref in refs]
        query = select(row.container_id, row.generation, row.commitment).where(
            tuple_(row.container_id, row.generation).in_(wanted)
        )
        async with self.store.read() as reader:
            found = {(each.container_id, each.generation): each.commitment for each in await reader.rows(query)}
        if not found.keys() >= set(wanted):
            raise GenerationGone
        return [found[name] for name in wanted]
