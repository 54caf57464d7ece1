"""A broker that takes nothing in the middle of steps: out of memory, or with a full queue."""

from collections import Counter
from pathlib import Path

from events.amqp import names
from schemas.names import MAILBOX_REENCRYPTOR
from tests.fleet.conftest import make_mailbox
from tests.fleet.installation import Fleet

Boxes = dict[str, Counter[bytes]]


def _not_taken(fleet: Fleet) -> None:
    """Wait until a relay has offered something to the broker in vain."""
    fleet.until(lambda: bool(fleet.value("SELECT count(*) FROM outbox WHERE attempts > 0")))


def test_out_of_memory(fleet: Fleet, boxes: Boxes, tmp_path: Path) -> None:
    """While the broker takes nothing, events stay in the outbox; the same processes go on when it has memory again."""
    there = list(fleet.replicas)
    boxes["long@acme.example"] = make_mailbox(fleet, "long@acme.example", tmp_path / "long", 200)
    for address in boxes:
        fleet.ask("policy", "assign", "acme/main", "--mailbox", address, "--no-wait")
    fleet.in_work()
    try:
        with fleet.held_up():  # or all would be done before the alarm is raised
            fleet.node.ctl("set_vm_memory_high_watermark", "0.0000001")
        _not_taken(fleet)
    finally:
        fleet.node.ctl("set_vm_memory_high_watermark", "absolute", "2GB")

    fleet.assert_sound(boxes)
    assert there == [replica for replica in fleet.replicas if replica.running]
    assert {2} == {fleet.generations()[address] for address in boxes}


def test_full_queue(fleet: Fleet, boxes: Boxes) -> None:
    """What a full queue refuses stays in its sender's outbox, and arrives once when somebody makes room."""
    moved, assigned = boxes
    queue = names.inbound(MAILBOX_REENCRYPTOR)
    fleet.leave(MAILBOX_REENCRYPTOR)
    there = list(fleet.replicas)
    for _ in range(2):
        fleet.ask("mailbox", "move", moved, "--no-wait")
    fleet.until(lambda: fleet.depths() == {queue: 2})
    with fleet.limited(queue, 1):
        fleet.ask("policy", "assign", "acme/main", "--mailbox", assigned, "--no-wait")
        _not_taken(fleet)
    fleet.staff()

    fleet.assert_sound(boxes)
    assert there == [replica for replica in fleet.replicas if replica in there and replica.running]
    assert {moved: 3, assigned: 2} == {address: fleet.generations()[address] for address in boxes}
