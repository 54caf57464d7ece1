"""kill -9: of a worker where it hurts, of the broker, of the database."""

from collections import Counter
from collections.abc import Callable

import pytest

from schemas.names import DEP_ASSIGNER, MAILBOX_REENCRYPTOR, TIK_CACHE_REFRESHER
from tests.fleet.installation import Fleet
from twinlock.crashpoints import CrashPoint

CASES = [
    pytest.param(DEP_ASSIGNER, CrashPoint.BEFORE_ACK, 1, id="assigner-before-ack"),
    pytest.param(DEP_ASSIGNER, CrashPoint.AFTER_CLAIM, 1, id="assigner-claim"),
    pytest.param(DEP_ASSIGNER, CrashPoint.AFTER_DISPATCH, 1, id="assigner-dispatch"),
    pytest.param(MAILBOX_REENCRYPTOR, CrashPoint.AFTER_CLAIM, 3, id="reencryptor-claim"),
    pytest.param(MAILBOX_REENCRYPTOR, CrashPoint.BEFORE_COMMIT, 9, id="reencryptor-before-commit"),
    pytest.param(MAILBOX_REENCRYPTOR, CrashPoint.AFTER_COMMIT, 9, id="reencryptor-after-commit"),
    pytest.param(MAILBOX_REENCRYPTOR, CrashPoint.BEFORE_ACK, 2, id="reencryptor-before-ack"),
    pytest.param(MAILBOX_REENCRYPTOR, CrashPoint.AFTER_DISPATCH, 2, id="reencryptor-dispatch"),
    pytest.param(TIK_CACHE_REFRESHER, CrashPoint.BEFORE_COMMIT, 4, id="refresher-before-commit"),
    pytest.param(TIK_CACHE_REFRESHER, CrashPoint.AFTER_COMMIT, 4, id="refresher-after-commit"),
]


@pytest.mark.parametrize(("worker", "point", "number"), CASES)
def test_worker(fleet: Fleet, boxes: dict[str, Counter[bytes]], worker: str, point: CrashPoint, number: int) -> None:
    """A worker killed at a crash point leaves nothing that the next one does not finish, once."""
    fleet.leave(worker)
    for address in boxes:
        fleet.ask("policy", "assign", "acme/main", "--mailbox", address, "--no-wait")
    fleet.crash(worker, point, number)
    fleet.lapse()
    fleet.staff()

    fleet.assert_sound(boxes)
    assert {2} == {fleet.generations()[address] for address in boxes}


def _broker(fleet: Fleet) -> None:
    fleet.node.kill()
    fleet.node.start()


def _database(fleet: Fleet) -> None:
    fleet.cluster.kill()
    fleet.cluster.start()


@pytest.mark.parametrize("kill", [_broker, _database])
def test_server(fleet: Fleet, boxes: dict[str, Counter[bytes]], kill: Callable[[Fleet], None]) -> None:
    """A broker or a database killed under load comes back to the same processes, which finish what they had begun."""
    there = list(fleet.replicas)
    for address in boxes:
        fleet.ask("policy", "assign", "acme/main", "--mailbox", address, "--no-wait")
    fleet.in_work()
    kill(fleet)
    fleet.all_ready()

    fleet.assert_sound(boxes)
    assert there == [replica for replica in fleet.replicas if replica.running]
    assert {2} == {fleet.generations()[address] for address in boxes}
