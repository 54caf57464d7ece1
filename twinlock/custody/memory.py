"""A custodian without vaults, for tests of everything above it: real wrapping, policy keys in plain memory."""

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import select

from schemas.identifiers import Slot
from twinlock.custody.errors import GenerationGone, KeyRefused
from twinlock.custody.port import (
    Asker,
    ContainerRef,
    MadePolicyKey,
    OpenedKey,
    PolicyKeyOrder,
    Probe,
    WrappedContainerKey,
)
from twinlock.keys.context import ContainerKeyContext
from twinlock.keys.ports import KeyDescription, Outcome, WrappedKey
from twinlock.keys.secret import SecretKey
from twinlock.keys.wrap import unwrap_key, wrap_key
from twinlock.store.tables.content import container_keys
from twinlock.store.unit import Store


class MemoryCustodian:
    """Fill the custodian's port; every policy in `refusing` is refused, `opened` notes who asked."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._keys: dict[tuple[str, int], SecretKey] = {}
        self._newest: defaultdict[str, int] = defaultdict(lambda: 1)
        self.refusing: set[str] = set()
        self.opened: list[tuple[ContainerRef, Asker]] = []

    async def probe(self, uri: str, asker: Asker) -> Probe:
        """Find every key well."""
        return Probe(uri, Outcome.OK, "", 0.0, _description(uri))

    async def make_policy_key(self, order: PolicyKeyOrder, asker: Asker) -> MadePolicyKey:
        """Make a policy key whose copies hold nothing."""
        self._newest[order.policy_id] = order.generation
        return self._made(order.policy_id, order.root_uris)

    async def rewrap_policy_key(self, policy_id: str, asker: Asker) -> MadePolicyKey:
        """Give the same key again."""
        self._allow(policy_id)
        return self._made(policy_id, ("memory://a/key", "memory://b/key"))

    async def open_container_key(self, ref: ContainerRef, asker: Asker) -> OpenedKey:
        """Open a stored container key."""
        key, policy_id, _ = await self._open(ref)
        self._allow(policy_id)
        self.opened.append((ref, asker))
        return OpenedKey(ref, key, keep_seconds=60.0, by_availability_key=False)

    async def make_container_keys(
        self, refs: Sequence[ContainerRef], policy_id: str, asker: Asker
    ) -> Sequence[WrappedContainerKey]:
        """Make container keys under a policy."""
        self._allow(policy_id)
        return [self._wrap(ref, policy_id, SecretKey.generate()) for ref in refs]

    async def rewrap_containers(
        self, refs: Sequence[ContainerRef], target_policy_id: str, asker: Asker
    ) -> Sequence[WrappedContainerKey]:
        """Wrap stored container keys under another policy."""
        wrapped = []
        for ref in refs:
            key, policy_id, _ = await self._open(ref)
            self._allow(policy_id)
            self._allow(target_policy_id)
            wrapped.append(self._wrap(ref, target_policy_id, key))
        return wrapped

    def _allow(self, policy_id: str) -> None:
        if policy_id in self.refusing:
            raise KeyRefused("the policy's keys are denied", policy=policy_id)

    async def _open(self, ref: ContainerRef) -> tuple[SecretKey, str, int]:
        stored = container_keys.c
        async with self._store.read() as reader:
            row = await reader.row(
                select(container_keys).where(
                    stored.container_id == ref.container_id, stored.generation == ref.generation
                )
            )
        if row is None:
            raise GenerationGone
        wrapping = self._key(row.policy_id, row.policy_key_generation)
        context = _context(ref, row.policy_id, row.policy_key_generation)
        return unwrap_key(wrapping, row.wrapped, context), row.policy_id, row.policy_key_generation

    def _wrap(self, ref: ContainerRef, policy_id: str, key: SecretKey) -> WrappedContainerKey:
        generation = self._newest[policy_id]
        wrapped = wrap_key(self._key(policy_id, generation), key, _context(ref, policy_id, generation))
        return WrappedContainerKey(ref, policy_id, generation, key.commitment(), wrapped)

    def _key(self, policy_id: str, generation: int) -> SecretKey:
        return self._keys.setdefault((policy_id, generation), SecretKey.generate())

    def _made(self, policy_id: str, uris: tuple[str, str]) -> MadePolicyKey:
        roots = _description(uris[0]), _description(uris[1])
        slots = zip((Slot.A, Slot.B), roots, strict=True)
        copies = tuple((slot, WrappedKey(root.uri, root.version, root.identity, b"")) for slot, root in slots)
        return MadePolicyKey(self._key(policy_id, self._newest[policy_id]).commitment(), copies, roots)


def _context(ref: ContainerRef, policy_id: str, generation: int) -> ContainerKeyContext:
    return ContainerKeyContext(ref.tenant_id, policy_id, generation, ref.container_id, ref.generation)


def _description(uri: str) -> KeyDescription:
    return KeyDescription(uri, "1", f"memory:{uri}", "memory", "AES-256", enabled=True, expires=None, recoverable=True)
