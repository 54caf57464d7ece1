"""What the custodian reads of a policy before it does anything: one consistent view."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select

from schemas.identifiers import PolicyHealth, PolicyState, Slot
from twinlock.custody.decision import AvailabilityKeyState
from twinlock.custody.operations import Account
from twinlock.custody.policies import Policy, load_policy
from twinlock.errors import NotFound
from twinlock.keys.context import PolicyKeyContext
from twinlock.keys.ports import WrappedKey
from twinlock.keys.uris import vault_of
from twinlock.store.tables.custody import availability_keys, policies, policy_key_copies, policy_keys
from twinlock.store.unit import Reader

RETIRED = "retired"  # an availability key whose place another one took: it opens what it wrapped, and wraps no more


@dataclass(frozen=True, slots=True)
class StoredPolicyKey:
    """Hold one generation of a policy key: its commitment and its wrapped copies."""

    tenant_id: str
    policy_id: str
    generation: int
    commitment: bytes
    copies: Mapping[Slot, WrappedKey]

    def context(self, slot: Slot) -> PolicyKeyContext:
        """Place the copy of one slot."""
        return PolicyKeyContext(self.tenant_id, self.policy_id, self.generation, slot.value)

    @property
    def account(self) -> Account:
        """Say for whom a vault is called about it."""
        return Account(self.tenant_id, self.policy_id)

    def vault(self, slot: Slot) -> str:
        """Name what answers for a slot, nothing where the copy is gone."""
        copy = self.copies.get(slot)
        return "" if copy is None else vault_of(copy.uri)


async def read_policy(reader: Reader, policy_id: str, *, lock: bool = False) -> Policy:
    """Read a policy, with `lock` held for the rest of the transaction; NotFound if there is none."""
    if lock:
        await reader.row(select(policies.c.id).where(policies.c.id == policy_id).with_for_update(key_share=True))
    policy = await load_policy(reader, policy_id)
    if policy is None:
        raise NotFound(f"there is no policy {policy_id}")
    return policy


async def read_unwell(reader: Reader, after: str, most: int) -> Sequence[str]:
    """Name the first active policies after this one, by their ids, whose root keys do not both answer."""
    row = policies.c
    unwell = (row.state == PolicyState.ACTIVE.value) & (row.health != PolicyHealth.HEALTHY.value)
    found = await reader.rows(select(row.id).where(unwell, row.id > after).order_by(row.id).limit(most))
    return [each.id for each in found]


async def read_policy_key(reader: Reader, policy: Policy, generation: int) -> StoredPolicyKey:
    """Read one generation of a policy's key; NotFound if it is gone."""
    commitment = await reader.scalar(
        select(policy_keys.c.commitment).where(
            policy_keys.c.policy_id == policy.id, policy_keys.c.generation == generation
        )
    )
    if commitment is None:
        raise NotFound(f"policy {policy} has no key generation {generation}")
    copies = policy_key_copies.c
    rows = await reader.rows(
        select(policy_key_copies).where(copies.policy_id == policy.id, copies.generation == generation)
    )
    wrapped = {Slot(row.slot): WrappedKey(row.uri, row.key_version, row.identity, row.ciphertext) for row in rows}
    return StoredPolicyKey(policy.tenant_id, policy.id, generation, commitment, wrapped)


async def read_generations(reader: Reader, policy: Policy) -> list[StoredPolicyKey]:
    """Read every generation of a policy's key that there is, the oldest first."""
    row = policy_keys.c
    found = await reader.rows(select(row.generation).where(row.policy_id == policy.id).order_by(row.generation))
    return [await read_policy_key(reader, policy, each.generation) for each in found]


async def read_availability_uri(reader: Reader, policy_id: str) -> str | None:
    """Return the availability key that wraps what is made now, or none where the policy has none yet, or never."""
    key = availability_keys.c
    present = (key.policy_id == policy_id, key.state == AvailabilityKeyState.PRESENT.value)
    found: str | None = await reader.scalar(select(key.uri).where(*present))
    return found


async def read_availability_state(reader: Reader, stored: StoredPolicyKey) -> AvailabilityKeyState:
    """Tell how it stands with the availability key that wrapped this generation; what is not known never opens."""
    copy = stored.copies.get(Slot.AVAILABILITY)
    if copy is None:
        return AvailabilityKeyState.ABSENT
    state = await reader.scalar(
        select(availability_keys.c.state).where(
            availability_keys.c.policy_id == stored.policy_id, availability_keys.c.uri == copy.uri
        )
    )
    known = {str(each): each for each in AvailabilityKeyState} | {RETIRED: AvailabilityKeyState.PRESENT}
    return AvailabilityKeyState.ABSENT if state is None else known.get(state, AvailabilityKeyState.FAILED)
