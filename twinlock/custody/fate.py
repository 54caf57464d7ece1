"""What becomes of a cached policy key, by what is known of its root keys (law 7)."""

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum

from schemas.identifiers import Workload
from twinlock.custody.decision import Outcomes
from twinlock.custody.health.verdicts import SlotStanding, Standing
from twinlock.custody.settings import CustodySettings
from twinlock.keys.ports import Outcome


class Fate(StrEnum):
    """Whether a cached key lives on."""

    RENEW = "renew"
    KEEP = "keep"
    EVICT = "evict"


def fate(standing: Standing, now: datetime, unclear_limit: float, outcomes: Outcomes | None = None) -> Fate:
    """Decide like a fresh user unwrap over what both slots stand at, or came to just now (`outcomes`).

    A root key that answers renews. `Corrupt` evicts; a `Denied` evicts at once on an exact code, else when a second
    look still refuses; `Unclear` on both evicts after `unclear_limit` seconds. Otherwise the key keeps to its hard
    expiry.
    """
    outcomes = outcomes or standing.outcomes
    if Outcome.OK in outcomes:
        return Fate.RENEW
    if Outcome.CORRUPT in outcomes or _denied(standing.slots.values()):
        return Fate.EVICT
    if outcomes == (Outcome.UNCLEAR, Outcome.UNCLEAR) and _unclear_for(standing.slots.values(), now) >= unclear_limit:
        return Fate.EVICT
    return Fate.KEEP


def _denied(slots: Iterable[SlotStanding]) -> bool:
    return any(slot.folded is Outcome.DENIED and slot.confirmed for slot in slots)


def _unclear_for(slots: Iterable[SlotStanding], now: datetime) -> float:
    return min((now - (slot.since or now)).total_seconds() for slot in slots)


def bound_seconds(settings: CustodySettings) -> float:
    """Return how long after the last successful unwrap by the customer's keys a denied key may still be in use.

    Two probe intervals (a denial without an exact code is looked at twice), the deadline of each probe, and the time
    for which callers may keep a container key.
    """
    return 2 * (settings.probe_interval + settings.vault_deadline) + settings.keep_seconds


def revoked_bound_seconds(settings: CustodySettings) -> float:
    """Return how long after a revocation on our side a key may still be in use, whatever hangs (law 8)."""
    return settings.epoch_seconds + settings.keep_seconds


def silent_bound_seconds(settings: CustodySettings, workload: Workload) -> float:
    """Return how long after its last unwrap a key may still be in use when neither vault answers: to its expiry."""
    return settings.ttl(workload) + settings.keep_seconds
