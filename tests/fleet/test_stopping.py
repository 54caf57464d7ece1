"""SIGTERM in the middle of work."""

import signal
from collections import Counter
from pathlib import Path

from schemas.names import MAILBOX_REENCRYPTOR
from tests.fleet.conftest import make_mailbox
from tests.fleet.installation import WORKERS, Fleet
from tests.fleet.replica import tracing

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


_AWAKE = f"SELECT event_id AS id FROM wake_slots WHERE worker = '{MAILBOX_REENCRYPTOR}' AND event_id IS NOT NULL"  # noqa: S608
_HANDLED = f"SELECT id FROM inbox WHERE consumer = '{MAILBOX_REENCRYPTOR}'"  # noqa: S608  # ours
_PLACES = 2  # steps at a time; as many wake-ups again wait behind them in a replica's memory


def _ids(fleet: Fleet, query: str) -> set[str]:
    return {row["id"] for row in fleet.rows(query)}


def test_given_back_unbegun(fleet: Fleet, tmp_path: Path) -> None:
    """Law 11: a draining replica ends what it has begun, and begins nothing of what waits in it and is given back."""
    boxes = {name: make_mailbox(fleet, name, tmp_path / name, 6) for name in (f"s{n}@acme.example" for n in range(5))}
    fleet.leave(MAILBOX_REENCRYPTOR)
    fleet.ask("policy", "assign", "acme/main", *(word for name in boxes for word in ("--mailbox", name)), "--no-wait")
    fleet.until(lambda: len(_ids(fleet, _AWAKE)) == 2 * _PLACES and not fleet.value("SELECT count(*) FROM outbox"))
    awake, trace, gate = _ids(fleet, _AWAKE), tmp_path / "begun", tmp_path / "gate"
    leaving = fleet.start(MAILBOX_REENCRYPTOR, tracing(trace, gate))
    fleet.until(lambda: not fleet.depths() and trace.exists() and len(trace.read_text().split()) == _PLACES)
    leaving.tell(signal.SIGTERM)
    fleet.until(lambda: "service" in leaving.asked("/readyz")[1]["checks"])
    gate.touch()
    code = fleet.ended(leaving, GRACE)
    begun, handled = trace.read_text().split(), _ids(fleet, _HANDLED)
    given_back = awake - handled
    after = tmp_path / "after"
    fleet.start(MAILBOX_REENCRYPTOR, tracing(after, gate))
    fleet.assert_sound(boxes)
    fleet.leave(MAILBOX_REENCRYPTOR)

    assert (0, _PLACES) == (code, len(begun))
    assert set(begun) == awake & handled
    assert _PLACES == len(given_back)
    assert given_back <= set(after.read_text().split())
    assert set() == set(begun) & set(after.read_text().split())
