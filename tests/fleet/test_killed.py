"""kill -9: of a worker where it hurts, of the broker, of the database."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from events.amqp.transport import AmqpTransport
from events.transport import Message
from schemas.envelope import enclose, serialise
from schemas.facts import ReencryptionWoken
from schemas.names import DEP_ASSIGNER, MAILBOX_REENCRYPTOR, SITE_REENCRYPTOR, TIK_CACHE_REFRESHER
from tests.fleet.conftest import brought_out, make_site
from tests.fleet.installation import Fleet
from tests.servers.postgres import run as run_async
from twinlock.clock import SystemClock
from twinlock.crashpoints import CrashPoint
from twinlock.store.unit import new_id

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


@pytest.fixture
def large(boxes: dict[str, Counter[bytes]], fleet: Fleet, tmp_path: Path) -> dict[str, Counter[bytes]]:
    """Put a message into each mailbox that is too large for the database, and so becomes an object."""
    folder = tmp_path / "large"
    folder.mkdir()
    body = b"Subject: large\n\n" + bytes(range(256)) * 600  # 150 KiB
    (folder / "large.eml").write_bytes(body)
    for address, items in boxes.items():
        fleet.ask("mailbox", "import", address, str(folder))
        items[body] += 1
    return boxes


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


def test_site_reencryptor(fleet: Fleet, tmp_path: Path) -> None:
    """A site returns every byte while whoever rolls and moves it lies killed, and when the next one has finished."""
    expected = make_site(fleet, "killed", "NAM", tmp_path / "in")
    fleet.ask("policy", "assign", "acme/killed", "--geo", "NAM")
    fleet.leave(SITE_REENCRYPTOR)
    fleet.ask("policy", "refresh", "acme/killed", "--new-policy-key", "--no-wait")
    fleet.ask("site", "move", "killed", "--no-wait")
    for point in (CrashPoint.AFTER_CLAIM, CrashPoint.BEFORE_COMMIT, CrashPoint.AFTER_OBJECT_WRITE):
        fleet.crash(SITE_REENCRYPTOR, point, 1)
        fleet.lapse()

        assert expected == brought_out(fleet, "killed", tmp_path / point.value)
    fleet.staff()
    fleet.assert_sound({})
    site = fleet.ask("site", "show", "killed")

    assert expected == brought_out(fleet, "killed", tmp_path / "out")
    assert (3, 2) == (site["files_encrypted"], site["policy_version"])


ASSIGNER_ELSEWHERE = (
    (CrashPoint.BEFORE_COMMIT, 2),
    (CrashPoint.AFTER_COMMIT, 2),
    (CrashPoint.AFTER_ACK, 1),
    (CrashPoint.BEFORE_DISPATCH, 1),
    (CrashPoint.AFTER_MARK, 1),
)
REENCRYPTOR_ELSEWHERE = (
    (CrashPoint.AFTER_INTENT, 1),
    (CrashPoint.AFTER_OBJECT_WRITE, 1),
    (CrashPoint.AFTER_SWITCH, 1),
    (CrashPoint.BEFORE_DISPATCH, 1),
    (CrashPoint.AFTER_MARK, 1),
    (CrashPoint.AFTER_ACK, 1),
    (CrashPoint.SWEEP_BEFORE_DELETE, 1),
)
ELSEWHERE = [
    pytest.param(DEP_ASSIGNER, ASSIGNER_ELSEWHERE, id="assigner"),
    pytest.param(MAILBOX_REENCRYPTOR, REENCRYPTOR_ELSEWHERE, id="reencryptor"),
]


@pytest.mark.parametrize(("worker", "points"), ELSEWHERE)
def test_worker_again_and_again(
    fleet: Fleet, large: dict[str, Counter[bytes]], worker: str, points: tuple[tuple[CrashPoint, int], ...]
) -> None:
    """Whoever takes over is killed as well, one after the other at every point that is left; the last one finishes."""
    fleet.leave(worker)
    for address in large:
        fleet.ask("policy", "assign", "acme/main", "--mailbox", address, "--no-wait")
    for point, number in points:
        fleet.lapse()
        if point is CrashPoint.SWEEP_BEFORE_DELETE:
            fleet.value("UPDATE object_intents SET expires_at = now()")  # those that the killed ones have left
        fleet.crash(worker, point, number)
    fleet.lapse()
    fleet.staff()

    fleet.assert_sound(large)
    assert {2} == {fleet.generations()[address] for address in large}


GIVING_UP = (CrashPoint.AFTER_COPY, CrashPoint.AFTER_BURIAL)
PUTTING_BACK = CrashPoint.AFTER_PUT_BACK


def _nobodys_fact(fleet: Fleet) -> None:
    """Wake the re-encryptor with an event that is not its publisher's to tell."""
    event = ReencryptionWoken(slot=0)
    envelope = enclose(
        event, event_id=new_id(), source="urn:x", time=SystemClock().now(), correlation=None, causation=None
    )
    body = serialise(envelope)
    message = Message(TIK_CACHE_REFRESHER, "urn:x", envelope.id, event.type, envelope.correlation, body)

    async def publish() -> None:
        url = (fleet.secrets(TIK_CACHE_REFRESHER) / "broker").read_text()
        transport = AmqpTransport(url, "test", "urn:x", SystemClock())

        assert [message] == await transport.publish([message])

        await transport.close()

    run_async(publish())


def test_dead_letter(fleet: Fleet, boxes: dict[str, Counter[bytes]]) -> None:
    """Who gives up an event, buries it or puts it back, and is killed over it, leaves one dead letter and one alert."""
    fleet.leave(MAILBOX_REENCRYPTOR)
    _nobodys_fact(fleet)
    for point in GIVING_UP:
        fleet.crash(MAILBOX_REENCRYPTOR, point, 1)
    fleet.staff()
    fleet.quiet()
    (letter,) = fleet.ask("dlq", "list")
    fleet.leave(MAILBOX_REENCRYPTOR)
    fleet.ask("dlq", "retry", "--no-wait")
    fleet.crash(MAILBOX_REENCRYPTOR, PUTTING_BACK, 1)
    fleet.staff()
    fleet.quiet()
    (again,) = fleet.ask("dlq", "list")
    fleet.value("DELETE FROM dead_letters")

    assert letter["reason"].startswith("producer: ")
    assert [letter["event"]] * 2 == [letter["event"], again["event"]]
    assert letter["id"] != again["id"]
    fleet.assert_sound(boxes)


def test_every_point() -> None:
    """Every crash point that there is kills at least one worker here, or the recovery handler in its own tests."""
    cases = {case.values[1] for case in CASES}
    elsewhere = {point for point, _number in (*ASSIGNER_ELSEWHERE, *REENCRYPTOR_ELSEWHERE)}
    handlers = {point for point in CrashPoint if point.value.startswith(("purge.", "recovery."))}

    assert set(CrashPoint) == cases | elsewhere | {*GIVING_UP, PUTTING_BACK} | handlers


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
