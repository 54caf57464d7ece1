"""Named points at which a test may kill the process; they do nothing otherwise.

Every place where a crash would have to be survived has a name here, so that a test can enumerate them all.
"""

from collections.abc import Callable
from enum import StrEnum


class CrashPoint(StrEnum):
    """Every named crash point."""

    BEFORE_COMMIT = "unit.before-commit"
    AFTER_COMMIT = "unit.after-commit"
    BEFORE_DISPATCH = "outbox.before-dispatch"
    AFTER_DISPATCH = "outbox.after-dispatch-before-mark"
    AFTER_MARK = "outbox.after-mark"
    BEFORE_ACK = "delivery.after-commit-before-ack"
    AFTER_ACK = "delivery.after-ack"
    AFTER_COPY = "delivery.after-copy-before-ack"
    AFTER_BURIAL = "letter.after-commit-before-ack"
    AFTER_PUT_BACK = "letter.after-publish-before-delete"
    AFTER_CLAIM = "job.after-claim"
    AFTER_INTENT = "object.after-intent-before-write"
    AFTER_OBJECT_WRITE = "object.after-write-before-switch"
    AFTER_SWITCH = "object.after-pointer-switch"
    PURGE_OBJECT_DELETED = "purge.after-object-before-row"
    PURGE_KEY_DESTROYED = "purge.after-availability-key-before-row"
    SWEEP_BEFORE_DELETE = "sweeper.after-intent-removed-before-delete"
    AFTER_BREAK_GLASS = "recovery.after-availability-unwrap-before-wrap"
    AFTER_NEW_COPIES = "recovery.after-copies-before-fresh-key"
    AFTER_FRESH_KEY = "recovery.after-fresh-key-before-commit"
    AFTER_DESTRUCTION = "recovery.after-key-destroyed-before-commit"


_armed: dict[CrashPoint, Callable[[], None]] = {}


def arm(point: CrashPoint, action: Callable[[], None]) -> None:
    """Call `action` whenever the point is reached, until `disarm`."""
    _armed[point] = action


def disarm() -> None:
    """Forget every armed point."""
    _armed.clear()


def reach(point: CrashPoint) -> None:
    """Mark that the program is at this point."""
    action = _armed.get(point)
    if action is not None:
        action()
