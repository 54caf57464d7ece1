"""Count what happens, under names that dashboards and alert rules rely on: `deploy/` holds both.

A label never holds what a stranger or a tenant chose without bound: no policy, no mailbox, no address. Vaults are
named, because an operator has to know which one is slow; beyond `MOST_VAULTS` all further ones are `other`.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

from events.transport import Message
from twinlock.custody.operations import Operation
from twinlock.store.unit import Cause

# From an embedded vault to the deadline of a remote one; then steps of re-encryption, up to an attempt's deadline.
_CALL_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_EVENT_SECONDS = (0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0, 300.0, 600.0)


MOST_VAULTS = 500  # whoever may ask for policies may name any number of them


class Metrics:
    """Hold the instruments of one process; it is the `Observer` of its event flow, its custodian and its work."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        GCCollector(registry=registry)
        self._calls = Histogram(
            "twinlock_vault_call_seconds",
            "How long a vault took to answer, by what it was asked and what came of it.",
            ("vault", "operation", "outcome"),
            buckets=_CALL_SECONDS,
            registry=registry,
        )
        self._held_back = _counter(registry, "vault_calls_held_back", "Calls of vaults not made.", "vault", "why")
        self._hedges = _counter(registry, "hedges", "Second root keys asked because the first took long.", "vault")
        self._hedges_won = _counter(registry, "hedges_won", "Second root keys that answered first.", "vault")
        self._served = _counter(registry, "container_keys_opened", "Container keys opened.", "opened_by", "source")
        self._not_served = _counter(registry, "container_keys_not_opened", "Container keys not opened.", "why")
        self._events = Histogram(
            "twinlock_event_seconds",
            "How long a delivery took until it was settled, and how it was.",
            ("consumer", "type", "how"),
            buckets=_EVENT_SECONDS,
            registry=registry,
        )
        self._published = _counter(registry, "events_published", "Events that the transport took.")
        self._left = _counter(registry, "events_not_taken", "Events that the transport did not take this time.")
        self._items = _counter(registry, "reencrypted_items", "Items and files moved to their newest key.", "worker")
        self._bytes = _counter(registry, "reencrypted_bytes", "Bytes of them.", "worker")
        self._vaults: set[str] = set()
        self._ready = Gauge("twinlock_ready", "Whether a check is good.", ("check",), registry=registry)
        self._gauges: dict[str, Gauge] = {}
        self._looks_failed = _counter(registry, "looks_failed", "Parts of this page that could not be had.", "look")

    def gauge(self, name: str, what: str, *labels: str) -> Gauge:
        """Return the gauge of that name, for what stands when somebody asks; workers of one process share it."""
        if name not in self._gauges:
            self._gauges[name] = Gauge(f"twinlock_{name}", what, labels, registry=self.registry)
        return self._gauges[name]

    def ready(self, check: str, good: bool) -> None:
        """Note whether a check is good."""
        self._ready.labels(check).set(good)

    def look_failed(self, look: str) -> None:
        """Count a look that failed."""
        self._looks_failed.labels(look).inc()

    def called(self, vault: str, operation: Operation, outcome: str, seconds: float) -> None:
        """Hear of a call of a vault."""
        self._calls.labels(self._named(vault), operation.value, outcome).observe(seconds)

    def held_back(self, vault: str, why: str) -> None:
        """Hear that a vault was not called."""
        self._held_back.labels(self._named(vault), why).inc()

    def hedged(self, vault: str) -> None:
        """Hear of a hedge."""
        self._hedges.labels(self._named(vault)).inc()

    def hedge_won(self, vault: str) -> None:
        """Hear of a hedge that answered first."""
        self._hedges_won.labels(self._named(vault)).inc()

    def served(self, opened_by: str, source: str) -> None:
        """Hear of a container key that was opened."""
        self._served.labels(opened_by, source).inc()

    def not_served(self, why: str) -> None:
        """Hear of one that was not."""
        self._not_served.labels(why).inc()

    def handling(self, consumer: str, message: Message) -> AbstractContextManager[None]:
        """Stay out of it: what matters is how it ends."""
        return nullcontext()

    def answering(self, operation: str, cause: Cause) -> AbstractContextManager[None]:
        """Stay out of it: what matters is what vaults are asked."""
        return nullcontext()

    def handled(self, consumer: str, event_type: str, how: str, seconds: float) -> None:
        """Hear of a delivery that was settled."""
        self._events.labels(consumer, event_type, how).observe(seconds)

    def published(self, taken: Sequence[Message], left: int) -> None:
        """Hear what of the outbox was taken."""
        self._published.inc(len(taken))
        self._left.inc(left)

    def _named(self, vault: str) -> str:
        if len(self._vaults) < MOST_VAULTS:
            self._vaults.add(vault)
        return vault if vault in self._vaults else "other"

    def close(self) -> None:
        """Let nothing go: whoever scrapes has what there was."""

    def stepping(self, worker: str, cause: Cause) -> AbstractContextManager[None]:
        """Stay out of it: a step is one handling."""
        return nullcontext()

    def reencrypted(self, worker: str, items: int, size: int) -> None:
        """Hear what a step of re-encryption moved."""
        self._items.labels(worker).inc(items)
        self._bytes.labels(worker).inc(size)


def _counter(registry: CollectorRegistry, name: str, what: str, *labels: str) -> Counter:
    return Counter(f"twinlock_{name}", what, labels, registry=registry)
