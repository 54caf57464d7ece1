"""SIGTERM in the middle of work."""

from collections import Counter

from tests.fleet.installation import WORKERS, Fleet

GRACE = 30.0


def test_sigterm_under_load(fleet: Fleet, boxes: dict[str, Counter[bytes]]) -> None:
    """Told to stop under load, a replica of each worker exits 0 in time, and the others finish it once."""
    for address in boxes:
        fleet.ask("policy", "assign", "acme/main", "--mailbox", address, "--no-wait")
    fleet.in_work()
    codes = {worker: fleet.stop(fleet.of(worker)[0], GRACE) for worker in WORKERS}

    assert dict.fromkeys(WORKERS, 0) == codes
    fleet.assert_sound(boxes)
    assert {2} == {fleet.generations()[address] for address in boxes}


def test_all_stop(fleet: Fleet, boxes: dict[str, Counter[bytes]]) -> None:
    """When the whole fleet is told to stop, everybody exits 0, and the next one finishes what was begun, once."""
    for address in boxes:
        fleet.ask("mailbox", "move", address, "--no-wait")
    fleet.in_work()
    codes = [fleet.stop(replica, GRACE) for replica in list(fleet.replicas)]
    begun = fleet.generations()
    fleet.staff()

    assert [0] * 2 * len(WORKERS) == codes
    assert {2} == {begun[address] for address in boxes}
    fleet.assert_sound(boxes)
    assert begun == fleet.generations()
