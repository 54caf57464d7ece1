"""One request and the judging of whatever comes back for it."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError

from twinlock.custody.port import Asker
from twinlock.custody.remote.carrying import Answer
from twinlock.custody.remote.frames import (
    MOST_REPLY_BYTES,
    Frame,
    Malformed,
    open_reply,
    request_frame,
    verify_reply,
)
from twinlock.custody.remote.messages import LIFETIME_SECONDS, Asking, Reply, Request
from twinlock.keys.errors import DecryptionError
from twinlock.keys.sealing import OneTimeKey
from twinlock.keys.secret import SecretKey
from twinlock.keys.signing import BadSignature, SigningKey
from twinlock.store.unit import new_id

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answered:
    """Hold a verified reply: what it says, and the container key beside it."""

    body: Answer
    key: SecretKey | None


class Exchange:
    """Hold one signed request and its one-time key; a repeat is another exchange."""

    def __init__(self, request: bytes, one_time: OneTimeKey, custodians: Mapping[bytes, bytes]) -> None:
        self.request = request
        self._one_time = one_time
        self._custodians = custodians
        self._forged = False

    @classmethod
    def begin(
        cls,
        name: str,
        key: SigningKey,
        custodians: Mapping[bytes, bytes],
        asking: Asking,
        asker: Asker,
        expires: datetime,
        seconds: float,
    ) -> "Exchange":
        """Sign a request; `custodians` are the public keys, by fingerprint, of who may answer."""
        one_time = OneTimeKey()
        request = Request(
            caller=name,
            id=new_id(),
            expires=int(expires.timestamp() * 1000),
            deadline=min(max(1, int(seconds * 1000)), int(LIFETIME_SECONDS * 1000)),
            reply_key=one_time.public,
            initiator=asker.initiator.kind,
            purpose=asker.initiator.purpose,
            work=asker.job,
            correlation=asker.cause.correlation,
            causation=asker.cause.causation,
            operation=asking,
        )
        return cls(request_frame(key, request.model_dump_json().encode()), one_time, custodians)

    def judge(self, raw: bytes) -> Answered | None:
        """Return what a custodian answers, or none for whatever is not its reply to this request."""
        try:
            frame = Frame.parse(raw, MOST_REPLY_BYTES)
            verify_reply(frame, self._custodians[frame.signer], self.request)
            body, key = open_reply(frame, self._one_time, self.request)
            return Answered(Reply.model_validate_json(body).body, key)
        except (KeyError, Malformed, BadSignature, DecryptionError, ValidationError):
            self._tell()
            return None

    def _tell(self) -> None:
        if not self._forged:
            self._forged = True
            log.warning("a reply that is not the custodian's was dropped; the call goes on waiting")
