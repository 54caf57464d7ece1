"""What the replicas of a real fleet measure of themselves."""

from collections import Counter, defaultdict
from collections.abc import Mapping

from tests.fleet.installation import Fleet
from tests.fleet.replica import Replica
from workers.roster import ROSTER

EVERYWHERE = {"twinlock_outbox_events", "twinlock_outbox_age_seconds", "twinlock_ready"}
OWN = {
    "has_jobs": {"twinlock_jobs", "twinlock_job_age_seconds"},
    "takes": {"twinlock_queue_messages", "twinlock_queue_consumers"},
}


def summed(replicas: list[Replica]) -> Mapping[str, float]:
    """Add up what replicas measured, by name without labels."""
    found: defaultdict[str, float] = defaultdict(float)
    for replica in replicas:
        for name, value in replica.measured().items():
            found[name.partition("{")[0]] += value
    return found


def test_every_worker(fleet: Fleet, boxes: dict[str, Counter[bytes]]) -> None:
    """Each worker measures what is its own, and nothing of it fails; what a move came to is counted."""
    name = next(iter(boxes))
    fleet.ask("policy", "assign", "acme/main", "--mailbox", name)
    fleet.quiet()

    measured = {worker: summed(fleet.of(worker)) for worker in ROSTER}

    for worker, found in measured.items():
        wanted = EVERYWHERE.union(*(names for duty, names in OWN.items() if getattr(ROSTER[worker], duty)))
        assert set() == wanted - set(found), worker
        assert 0 == found["twinlock_looks_failed_total"], worker
    moved = measured["mailbox_reencryptor"]
    assert 24 <= moved["twinlock_reencrypted_items_total"]
    assert 0 < moved["twinlock_reencrypted_bytes_total"]
    assert 0 < measured["tik_cache_refresher"]["twinlock_vault_call_seconds_count"]
    assert "twinlock_alerts_open" not in measured["dep_assigner"]
