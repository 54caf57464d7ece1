"""Replicas of two minor versions share the work of one fleet while it is upgraded."""

from collections import Counter
from collections.abc import Mapping, Sequence

from schemas.names import DEP_ASSIGNER, MAILBOX_REENCRYPTOR
from tests.fleet.installation import Fleet
from tests.fleet.replica import Replica, aged

MIXED = (DEP_ASSIGNER, MAILBOX_REENCRYPTOR)
TURNS = 20  # chance decides who takes an event
_DONE = 'how="done"'


def _handled(replica: Replica) -> float:
    """Return how many events a replica has handled, by its own count."""
    return sum(
        value
        for name, value in replica.measured().items()
        if name.startswith("twinlock_event_seconds_count") and _DONE in name
    )


def _all_have_worked(mixed: Mapping[str, Sequence[Replica]]) -> bool:
    return all(_handled(replica) for replicas in mixed.values() for replica in replicas)


def test_two_versions(fleet: Fleet, boxes: dict[str, Counter[bytes]]) -> None:
    """Law 11: an older and a newer replica of a worker do everything once, lose nothing, and understand each other."""
    for worker in MIXED:
        fleet.leave(worker)
    mixed = {worker: [fleet.start(worker, aged(age)) for age in ("older", "newer")] for worker in MIXED}
    try:
        fleet.all_ready()
        moves = 0
        while not _all_have_worked(mixed) and moves < TURNS:
            for address in boxes:
                fleet.ask("policy", "assign", "acme/main", "--mailbox", address)
                fleet.ask("mailbox", "move", address)
            moves += 1

        assert _all_have_worked(mixed), mixed

        fleet.assert_sound(boxes)

        assert {2 + moves} == {fleet.generations()[address] for address in boxes}
    finally:
        for worker in MIXED:
            fleet.leave(worker)
