"""Callers far from the custodian, over a wire that a test can be hostile on; work for them to name."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from sqlalchemy import insert

from schemas.event import Event
from schemas.names import CUSTODIAN
from schemas.requests import MoveRequested
from twinlock.custody.audit.log import AuditLog
from twinlock.custody.callers.enrolment import enroll
from twinlock.custody.callers.purposes import CALLERS
from twinlock.custody.errors import CustodianSilent
from twinlock.custody.port import USER, Asker, JobRef, RequestRef, service
from twinlock.custody.remote import caller
from twinlock.custody.remote.caller import RemoteCustodian
from twinlock.custody.remote.host import CustodianHost
from twinlock.custody.remote.ports import Lane
from twinlock.keys.signing import SigningKey
from twinlock.store.tables.work import jobs, requests
from twinlock.store.unit import Cause

if TYPE_CHECKING:
    from tests.integration.custody.conftest import Custody

T = TypeVar("T")
CAUSE = Cause("test")
SOURCE = "urn:test:publisher"


@dataclass(slots=True)
class Wire:
    """Carry requests to a host and replies back; both ways may be changed, and everything is kept."""

    serve: Callable[[bytes], Any]
    change: Callable[[bytes], bytes] = lambda request: request
    deliver: Callable[[bytes, bytes | None], Iterable[bytes]] = lambda _request, reply: [reply] if reply else []
    requests: list[bytes] = field(default_factory=list)
    replies: list[bytes | None] = field(default_factory=list)
    lanes: list[Lane] = field(default_factory=list)

    async def ask(self, request: bytes, lane: Lane, deadline: float, judge: Callable[[bytes], T | None]) -> T:
        """Carry a request there and whatever is delivered back."""
        self.requests.append(request)
        self.lanes.append(lane)
        self.replies.append(await self.serve(self.change(request)))
        for reply in self.deliver(request, self.replies[-1]):
            judged = judge(reply)
            if judged is not None:
                return judged
        raise CustodianSilent


class Afar:
    """Hold a host, one signing key for each caller, and a wire."""

    def __init__(self, custody: "Custody") -> None:
        self.custody = custody
        self.key = SigningKey.generate()
        self.keys = {name: SigningKey.generate() for name in CALLERS}
        self.audit = AuditLog(custody.store, "host", bytes(32), custody.clock)
        self.wire = Wire(self.serve)
        self.vouches = False

    async def enroll_all(self) -> None:
        """Enrol the custodian and every caller."""
        async with self.custody.store.begin(CAUSE) as unit:
            for name, key in {CUSTODIAN: self.key, **self.keys}.items():
                await enroll(unit, name, key.public)

    def host(self) -> CustodianHost:
        """Return a host as a fresh replica, before the custodian of this moment."""
        custody = self.custody
        return CustodianHost(
            custody.store, custody.custodian, self.key, self.audit, custody.clock, vouches=self.vouches
        )

    async def serve(self, body: bytes, sender: str | None = None) -> bytes | None:
        """Serve one request on a fresh replica."""
        return await self.host().serve(body, sender)

    def caller(self, name: str, key: SigningKey | None = None) -> RemoteCustodian:
        """Return the custodian as this caller has it."""
        custody = self.custody
        return RemoteCustodian(custody.store, self.wire, name, key or self.keys[name], custody.clock)

    async def job(self, kind: str, worker: str, **values: Any) -> JobRef:
        """Store a live job and name it."""
        row: dict[str, Any] = {
            "id": f"{kind}:{len(values)}:{worker}",
            "worker": worker,
            "kind": kind,
            "tenant_id": "acme",
        }
        row |= {"payload": {}, "total": 0, "done": 0, "trouble": "", "fencing": 1, "turn": 0, "correlation": "test"}
        row |= {"not_before": self.custody.clock.now(), "created_at": self.custody.clock.now()} | values
        async with self.custody.store.begin(CAUSE) as unit:
            await unit.execute(insert(jobs).values(row))
        return JobRef(row["id"])

    async def request(self, kind: type[Event] = MoveRequested, request_id: str = "r1", **values: Any) -> RequestRef:
        """Store a request that nobody has answered and name it."""
        row: dict[str, Any] = {
            "source": SOURCE,
            "id": request_id,
            "publisher": "local",
            "type": kind.type,
            "correlation": "test",
        }
        row |= {"answer": {}, "received_at": self.custody.clock.now(), "digest": bytes(32), "accepted": True} | values
        async with self.custody.store.begin(CAUSE) as unit:
            await unit.execute(insert(requests).values(row))
        return RequestRef(SOURCE, request_id)

    def user(self, deadline: float = 60.0) -> Asker:
        """Ask on a person's behalf."""
        return Asker(USER, CAUSE, deadline)

    def working(self, purpose: str, work: JobRef | RequestRef | None, deadline: float = 60.0) -> Asker:
        """Ask as the service, for this work."""
        return Asker(service(purpose), CAUSE, deadline, work)

    async def entries(self, kind: str) -> Sequence[Any]:
        """Return the audit entries of a kind."""
        return [row for row in await self.custody.audit() if row.kind == kind]


@pytest.fixture
def once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have callers ask once, however much of their deadline is left: the custodian answers, however slow it is."""
    monkeypatch.setattr(caller, "_PAUSE", 3600.0)


@pytest.fixture
async def afar(custody: "Custody") -> Afar:
    """Return callers that are enrolled."""
    found = Afar(custody)
    await found.enroll_all()
    return found
