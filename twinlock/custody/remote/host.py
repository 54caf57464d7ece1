"""The custodian's side: take signed requests from a carrier that is not trusted, and answer those that may ask.

What does not verify gets no answer. What does, but is not permitted, gets a signed refusal, and an audit entry.
"""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pydantic import ValidationError

from twinlock.custody.audit.entries import entry
from twinlock.custody.audit.log import AuditLog
from twinlock.custody.callers import replays, warrants
from twinlock.custody.callers.enrolment import Enrolled, find_key
from twinlock.custody.callers.purposes import permit, read_as_service, reads_as_service
from twinlock.custody.errors import NotPermitted
from twinlock.custody.observing import Observer, Unobserved
from twinlock.custody.port import Asker, Custodian, InitiatorClass
from twinlock.custody.remote.carrying import Answer, asker_of, carry_out
from twinlock.custody.remote.failures import told
from twinlock.custody.remote.frames import (
    MOST_REQUEST_BYTES,
    Frame,
    Malformed,
    reply_frame,
    verify_request,
)
from twinlock.custody.remote.ignoring import Ignored, Why
from twinlock.custody.remote.messages import LIFETIME_SECONDS, OpenContainerKey, Reply, Request
from twinlock.keys.ports import Clock
from twinlock.keys.secret import SecretKey
from twinlock.keys.signing import BadSignature, SigningKey
from twinlock.store.unit import Reader, Store, Unit

SKEW_SECONDS = 5.0  # by how much the clocks of a caller and a custodian may differ


class _Ignore(Exception):
    def __init__(self, why: Why) -> None:
        super().__init__(why)
        self.why = why


@dataclass(frozen=True, slots=True)
class _Call:
    """Hold a request that is what it says, in time and for the first time; `refused` where it is not permitted."""

    frame: bytes
    request: Request
    asker: Asker
    refused: NotPermitted | None


class CustodianHost:
    """Serve a custodian to callers in other processes.

    Where the carrier `vouches` for its senders, only the login of a worker's own name speaks as the service.
    """

    def __init__(
        self,
        store: Store,
        custodian: Custodian,
        key: SigningKey,
        audit: AuditLog,
        clock: Clock,
        *,
        vouches: bool = False,
        observer: Observer | None = None,
    ) -> None:
        self._observer = observer or Unobserved()
        self._store = store
        self._custodian = custodian
        self._key = key
        self._audit = audit
        self._clock = clock
        self._vouches = vouches
        self._ignored = Ignored(audit, clock)

    async def serve(self, body: bytes, sender: str | None = None) -> bytes | None:
        """Return the sealed and signed reply, or none where none is due, or comes too late.

        `sender` is the login that the carrier vouches for, a second check of keys that were enrolled with one.
        """
        try:
            call = await self._take(body, sender)
        except _Ignore as ignored:
            await self._ignored.note(ignored.why)
            return None
        try:
            with self._observer.answering(call.request.operation.name.value, call.asker.cause):
                async with asyncio.timeout(call.asker.deadline):
                    return await self._answer(call)
        except TimeoutError:
            return None

    async def _take(self, body: bytes, sender: str | None) -> _Call:
        frame = _parsed(body)
        async with self._store.read() as reader:
            request = self._verified(frame, await find_key(reader, frame.signer), sender)
            until = datetime.fromtimestamp(request.expires / 1000, UTC) + timedelta(seconds=SKEW_SECONDS)
            left = self._left(request, until)
            asker = asker_of(request, left)
            refused = await _refused(reader, request, asker)
        async with self._store.begin(asker.cause) as unit:
            if not await replays.take(unit, request.caller, request.id, until):
                raise _Ignore(Why.REPLAYED)
            await self._tell(unit, request, asker, refused)
        return _Call(body, request, asker, refused)

    def _verified(self, frame: Frame, signer: Enrolled | None, sender: str | None) -> Request:
        """Return what the frame's signer asks; nothing is read of a request before its signature fits."""
        if signer is None:
            raise _Ignore(Why.UNKNOWN_SIGNER)
        try:
            verify_request(frame, signer.public_key)
            request = Request.model_validate_json(frame.content)
        except BadSignature:
            raise _Ignore(Why.BAD_SIGNATURE) from None
        except ValidationError:
            raise _Ignore(Why.MALFORMED) from None
        if request.caller != signer.name:
            raise _Ignore(Why.OTHER_NAME)
        named = signer.login
        if named is None and self._vouches and request.initiator is InitiatorClass.SERVICE:
            named = signer.name
        if named is not None and named != sender:
            raise _Ignore(Why.OTHER_LOGIN)
        return request

    def _left(self, request: Request, until: datetime) -> float:
        left = (until - self._clock.now()).total_seconds()
        if not 0 < left <= LIFETIME_SECONDS + 2 * SKEW_SECONDS:
            raise _Ignore(Why.EXPIRED)
        return min(left, request.deadline / 1000)

    async def _tell(self, unit: Unit, request: Request, asker: Asker, refused: NotPermitted | None) -> None:
        operation, who = request.operation.name, request.caller
        if refused is not None:
            detail = {"operation": operation.value, "work": str(request.work), "reason": refused.detail}
            await self._audit.append(unit, entry("rpc-refused", asker, tenant_id=None, policy_id=None, **detail))
        elif reads_as_service(who, asker.initiator, operation) and isinstance(request.operation, OpenContainerKey):
            ref = request.operation.ref
            said = entry("read-as-service", asker, tenant_id=ref.tenant_id, policy_id=None, container=ref.container_id)
            await self._audit.append(unit, said)
            unit.emit(read_as_service(who, asker.initiator, ref.container_id))

    async def _answer(self, call: _Call) -> bytes:
        if call.refused is not None:
            return await self._reply(call, told(call.refused), None)
        answer, secret = await carry_out(self._custodian, call.request.operation, call.asker)
        try:
            return await self._reply(call, answer, secret)
        finally:
            if secret is not None:
                secret.wipe()

    async def _reply(self, call: _Call, answer: Answer, secret: SecretKey | None) -> bytes:
        body = Reply(body=answer).model_dump_json().encode()
        return reply_frame(self._key, call.frame, call.request.reply_key, body, secret)


def _parsed(body: bytes) -> Frame:
    try:
        return Frame.parse(body, MOST_REQUEST_BYTES)
    except Malformed:
        raise _Ignore(Why.MALFORMED) from None


async def _refused(reader: Reader, request: Request, asker: Asker) -> NotPermitted | None:
    operation = request.operation.name
    allowed = permit(request.caller, asker.initiator, operation)
    if allowed is None:
        return NotPermitted(
            f"{request.caller} may not ask for {operation.value} as {asker.initiator}",
            policy="",
            hint="who may ask for what is in docs/custodian.md",
        )
    try:
        await warrants.check(reader, request.caller, allowed, asker, request.operation)
    except NotPermitted as refused:
        return refused
    return None
