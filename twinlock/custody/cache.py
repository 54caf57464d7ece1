"""Policy keys in the clear, for a limited time, each tagged with how it was opened (law 7).

A key lent by `find` may be wiped as soon as the borrower awaits anything: use it at once, and never keep it.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum

from schemas.identifiers import Slot
from twinlock.custody.port import InitiatorClass
from twinlock.keys.ports import Clock
from twinlock.keys.secret import SecretKey


class OpenedBy(StrEnum):
    """How a policy key was opened: by a root key, or by the availability key on a decision for one class of callers."""

    ROOT_KEY = "root-key"
    AVAILABILITY_FOR_USER = "availability-for-user"
    AVAILABILITY_FOR_SERVICE = "availability-for-service"

    @classmethod
    def availability(cls, initiator: InitiatorClass) -> "OpenedBy":
        """Tag a key that the availability key opened; what was opened for one class never serves the other."""
        return cls.AVAILABILITY_FOR_USER if initiator is InitiatorClass.USER else cls.AVAILABILITY_FOR_SERVICE


@dataclass(frozen=True, slots=True)
class CacheLine:
    """Name a cached policy key, for people and for the prober."""

    policy_id: str
    generation: int
    opened_by: OpenedBy
    expires: float
    ttl: float


@dataclass(slots=True)
class _Entry:
    key: SecretKey
    expires: float
    ttl: float
    slot: Slot | None


_Name = tuple[str, int, OpenedBy]


class KeyCache:
    """Hold policy keys until they expire on the monotonic clock or are evicted; both wipe them.

    `epoch` is the newest revocation by which keys were dropped (law 8).
    """

    def __init__(self, clock: Clock) -> None:
        self.epoch = 0
        self._clock = clock
        self._entries: dict[_Name, _Entry] = {}

    def put(
        self,
        policy_id: str,
        generation: int,
        opened_by: OpenedBy,
        key: SecretKey,
        ttl: float,
        epoch: int = 0,
        slot: Slot | None = None,
    ) -> bool:
        """Take a key over, and wipe the one that it replaces; false, and nothing is taken, where the epoch moved on.

        `epoch` is what it was before the policy's state was read, by which the key was opened; `slot` opened it.
        """
        if epoch != self.epoch:
            return False
        name = (policy_id, generation, opened_by)
        old = self._entries.get(name)
        if old is not None and old.key is not key:
            old.key.wipe()
        self._entries[name] = _Entry(key, self._clock.monotonic() + ttl, ttl, slot)
        return True

    def find(self, policy_id: str, generation: int, opened_by: OpenedBy) -> SecretKey | None:
        """Lend a live key, or none."""
        self.sweep()
        entry = self._entries.get((policy_id, generation, opened_by))
        return entry.key if entry is not None else None

    def slot(self, policy_id: str, generation: int, opened_by: OpenedBy) -> Slot | None:
        """Name the slot that opened a cached key."""
        entry = self._entries.get((policy_id, generation, opened_by))
        return entry.slot if entry is not None else None

    def renew(self, policy_id: str, generation: int, ttl: float) -> None:
        """Extend the life of a key that a root key opened; nothing happens where there is none."""
        self.sweep()
        entry = self._entries.get((policy_id, generation, OpenedBy.ROOT_KEY))
        if entry is not None:
            entry.expires, entry.ttl = self._clock.monotonic() + ttl, ttl

    def evict(self, policy_id: str) -> int:
        """Wipe every key of a policy and return how many there were."""
        return self._drop([name for name in self._entries if name[0] == policy_id])

    def move_on(self, epoch: int, policy_ids: Collection[str]) -> int:
        """Wipe every key of these policies, enter an epoch, and return how many keys there were."""
        dropped = self._drop([name for name in self._entries if name[0] in policy_ids])
        self.epoch = epoch
        return dropped

    def sweep(self) -> int:
        """Wipe what has expired and return how many keys that were."""
        now = self._clock.monotonic()
        return self._drop([name for name, entry in self._entries.items() if entry.expires <= now])

    def close(self) -> None:
        """Wipe everything."""
        self._drop(list(self._entries))

    def lines(self) -> Iterator[CacheLine]:
        """Name every live key."""
        self.sweep()
        for name, entry in sorted(self._entries.items()):
            yield CacheLine(*name, entry.expires, entry.ttl)

    def _drop(self, names: list[_Name]) -> int:
        for name in names:
            self._entries.pop(name).key.wipe()
        return len(names)
