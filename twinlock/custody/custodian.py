"""The custodian in this process: a function call embedded, the far end of the RPC in a fleet."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import timedelta
from random import Random, SystemRandom
from typing import TypeVar

from schemas.identifiers import Workload
from twinlock.custody.ahead import RefreshAhead
from twinlock.custody.attempt import Attempts, Witness
from twinlock.custody.audit.log import AuditLog
from twinlock.custody.availability import AvailabilityKeys
from twinlock.custody.cache import CacheLine
from twinlock.custody.containers import StoredContainerKeys
from twinlock.custody.guards import Guards, on_behalf_of
from twinlock.custody.health.examining import Examiner
from twinlock.custody.health.looking import KeyLooks
from twinlock.custody.health.prober import Prober
from twinlock.custody.health.probing import RootKeyProbe
from twinlock.custody.hedge import Hedged
from twinlock.custody.latency import Latencies
from twinlock.custody.lifecycle.making import PolicyKeyMaker
from twinlock.custody.lifecycle.refreshing import PolicyKeyRefresher
from twinlock.custody.lifecycle.rewrapping import ContainerRewrapper
from twinlock.custody.observing import Observer, Unobserved
from twinlock.custody.opening import PolicyKeyOpener
from twinlock.custody.port import (
    Asker,
    ContainerRef,
    MadePolicyKey,
    OpenedKey,
    PolicyKeyOrder,
    Probe,
    WrappedContainerKey,
)
from twinlock.custody.revocation.epoch import Epoch
from twinlock.custody.revocation.mark import RestoreGuard
from twinlock.custody.revocation.register import Instance, Report
from twinlock.custody.rows import read_availability_uri
from twinlock.custody.serving import ContainerKeys
from twinlock.custody.settings import CustodySettings
from twinlock.custody.unwrap import Failover, RootUnwrap, SlotAsker, Vaults
from twinlock.custody.wiping import wipe
from twinlock.keys.ports import AvailabilityVault, Clock
from twinlock.store.unit import Store, new_id

T = TypeVar("T")


class LocalCustodian:
    """Be the `Custodian`. Whoever runs it also runs `epoch`, `prober` and `ahead`; `close` and `epoch.leave` end it.

    Whatever uses a policy key is done only while the epoch is confirmed (law 8). `instance` names this process.
    `availability` is the provider's own vault. `witness` says whether something outside the customer's control answers
    this process; by default that is the provider's vault describing the availability key. `guard` keeps it from serving
    from a restored database; `observer` hears what is done.
    """

    def __init__(
        self,
        store: Store,
        vaults: Vaults,
        availability: AvailabilityVault,
        audit: AuditLog,
        clock: Clock,
        *,
        settings: CustodySettings | None = None,
        rng: Random | None = None,
        witness: Witness | None = None,
        instance: Instance | None = None,
        guard: RestoreGuard | None = None,
        observer: Observer | None = None,
    ) -> None:
        settings, observer = settings or CustodySettings(), observer or Unobserved()
        latencies = Latencies(clock, settings.hedge)
        guards = self._guards = Guards(clock, settings.guards, observer)
        slots = SlotAsker(vaults, clock, settings.vault_deadline, latencies, guards)
        keys = AvailabilityKeys(availability, guards, audit, settings.vault_deadline)
        rng = rng or SystemRandom()
        ways: dict[Workload, RootUnwrap] = {
            Workload.MAILBOX: Failover(slots, rng),
            Workload.SITE: Hedged(slots, clock, latencies, settings.hedge, rng, observer),
        }
        self._store = store
        self._clock = clock
        self._settings = settings
        self._attempts = Attempts(store, clock, settings, ways, keys, witness or keys.answers)
        opener = PolicyKeyOpener(clock, settings, self._attempts)
        self._containers = ContainerKeys(StoredContainerKeys(store), opener, audit, settings, observer)
        self._rewrapper = ContainerRewrapper(store, clock, self._attempts, audit)
        self._maker = PolicyKeyMaker(vaults, availability, guards, audit, settings)
        self._refresher = PolicyKeyRefresher(store, vaults, settings, guards, slots, self._attempts, audit)
        self._probe = RootKeyProbe(vaults, guards, clock, audit, settings)
        examiner = Examiner(clock, settings, slots, self._attempts)
        self.prober = Prober(store, clock, settings, examiner, self._attempts)
        self.looks = KeyLooks(store, vaults, guards, clock, settings)
        self.ahead = RefreshAhead(store, clock, settings, examiner, self._attempts, rng)
        instance = instance or Instance(new_id(), "custodian")
        self.epoch = Epoch(store, self._attempts.cache, clock, settings, instance, self._report, audit, guard)

    async def probe(self, uri: str, asker: Asker) -> Probe:
        """Check a root key live."""
        with on_behalf_of(asker):
            return await self._probe.probe(uri, asker)

    async def make_policy_key(self, order: PolicyKeyOrder, asker: Asker) -> MadePolicyKey:
        """Make a policy key generation with its verified copies."""
        async with self._store.read() as reader:
            current = await read_availability_uri(reader, order.policy_id)
        with on_behalf_of(asker):
            return await self._maker.make(order, asker, current or self._settings.availability_uri(order.policy_id))

    async def rewrap_policy_key(self, policy_id: str, asker: Asker) -> MadePolicyKey:
        """Wrap the newest policy key generation under the newest versions of its root keys."""
        return await self._serve(asker, lambda asker: self._refresher.refresh(policy_id, asker))

    async def open_container_key(self, ref: ContainerRef, asker: Asker) -> OpenedKey:
        """Open a container key by the decision table."""
        return await self._serve(asker, lambda asker: self._containers.open(ref, asker), _discard)

    async def make_container_keys(
        self, refs: Sequence[ContainerRef], policy_id: str, asker: Asker
    ) -> Sequence[WrappedContainerKey]:
        """Make keys of new container generations."""
        return await self._serve(asker, lambda asker: self._containers.make(refs, policy_id, asker))

    async def rewrap_containers(
        self, refs: Sequence[ContainerRef], target_policy_id: str, asker: Asker
    ) -> Sequence[WrappedContainerKey]:
        """Wrap stored container keys under the newest policy key of another policy."""
        return await self._serve(asker, lambda asker: self._rewrapper.rewrap(refs, target_policy_id, asker))

    def cached(self) -> Iterator[CacheLine]:
        """Name the policy keys in memory and when they expire, on the monotonic clock."""
        return self._attempts.cache.lines()

    async def count_operations(self) -> None:
        """Write down how often vaults were asked since the last time."""
        await self._guards.tally.flush(self._store)

    def close(self) -> None:
        """Wipe every policy key."""
        self._attempts.cache.close()

    async def _serve(
        self, asker: Asker, work: Callable[[Asker], Awaitable[T]], discard: Callable[[T], None] = lambda _: None
    ) -> T:
        with on_behalf_of(asker):
            return await self.epoch.serve(asker, work, discard)

    def _report(self) -> Report:
        now, read = self._clock.now(), self._clock.monotonic()
        return {
            "keys": [
                {
                    "policy": line.policy_id,
                    "generation": line.generation,
                    "opened_by": line.opened_by.value,
                    "expires": (now + timedelta(seconds=line.expires - read)).isoformat(timespec="seconds"),
                }
                for line in self.cached()
            ],
            "silent": self._guards.silent(),
        }


def _discard(opened: OpenedKey) -> None:
    wipe(opened.key)
