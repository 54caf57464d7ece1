"""Tell of requests that get no answer, without letting whoever sends them fill the log or the audit trail."""

import logging
from collections import Counter
from enum import StrEnum

from twinlock.custody.audit.log import AuditEntry, AuditLog
from twinlock.keys.ports import Clock

log = logging.getLogger(__name__)

TELL_SECONDS = 60.0


class Why(StrEnum):
    """Name why a request gets no answer."""

    MALFORMED = "malformed"
    UNKNOWN_SIGNER = "unknown signer"
    BAD_SIGNATURE = "bad signature"
    OTHER_NAME = "signed by another than it names"
    OTHER_LOGIN = "sent by another login than it was enrolled with"
    EXPIRED = "expired, or good for too long"
    REPLAYED = "sent before"


class Ignored:
    """Count what is ignored; each reason is told at most once a minute, with how often it came."""

    def __init__(self, audit: AuditLog, clock: Clock) -> None:
        self._audit = audit
        self._clock = clock
        self._untold: Counter[Why] = Counter()
        self._told: dict[Why, float] = {}

    async def note(self, why: Why) -> None:
        """Count one more, and tell where it is time."""
        self._untold[why] += 1
        now = self._clock.monotonic()
        if now < self._told.get(why, float("-inf")) + TELL_SECONDS:
            return
        self._told[why] = now
        count = self._untold.pop(why)
        log.warning("%d requests to the custodian were ignored: %s", count, why)
        await self._audit.record(AuditEntry("rpc-requests-ignored", None, None, {"reason": why.value, "count": count}))
