"""A publisher from outside: it asks for moves until the broker takes no more, and again for what was refused.

A move that comes while no root key answers is refused for that, as law 6 has it: the publisher asks anew.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from events.amqp.transport import AmqpTransport
from events.amqp.trouble import NotTaken
from events.transport import Message
from schemas.envelope import enclose, serialise
from schemas.requests import MoveRequested
from schemas.routing import REQUESTS_EXCHANGE
from tests.chaos.stage import QUIET, STARTING, Stage
from tests.chaos.tenants import Tenants
from twinlock.clock import SystemClock
from twinlock.custody.refusing import NEEDS_ROOT
from twinlock.store.unit import new_id

LOGIN, _SOURCE = "portal", "urn:portal"
_MOST = 100  # requests, by which a queue with room for one has to be full
_REQUESTS = """
SELECT id, accepted, outcome, CAST(answer AS json) ->> 'hint' AS hint FROM requests WHERE publisher = 'portal'
"""


class Portal:
    """Keep in mind what the broker has confirmed."""

    def __init__(self, stage: Stage, tenants: Tenants) -> None:
        self.taken: set[str] = set()  # ids of requests
        self.refused: list[Message] = []  # by the broker
        self._unserved: set[str] = set()  # ids of requests for which no root key answered
        self._stage = stage
        self._mailbox = f"mover@{tenants.names[0]}.example"
        self._tenants = tenants
        self._clock = SystemClock()

    def begin(self) -> None:
        """Get a login at the broker, be registered, and have one request confirmed while nothing is wrong."""
        fleet = self._stage.fleet
        fleet.node.user(fleet.vhost, LOGIN, "^$", f"^{REQUESTS_EXCHANGE}$", "^$")
        self._tenants.insist("publisher", "add", LOGIN, "--all-tenants", "--may", "move")
        self.refused.append(self._request())
        self.settle()

    def fill(self) -> str:
        """Ask until the broker says that it does not take it."""
        before = len(self.taken)
        asyncio.run(self._fill())
        return f"{len(self.taken) - before} requests taken, one refused"

    def settle(self) -> None:
        """Ask again for what the broker refused, now that there is room for it, and anew where no root key answered."""
        self._insist()
        self._stage.fleet.until(self._answered, QUIET)
        self._unserved = {
            row["id"] for row in self._found() if (row["outcome"], row["hint"]) == ("refused", NEEDS_ROOT)
        }
        self.refused += [self._request() for _ in self._unserved]
        self._insist()

    def wrong(self) -> list[object]:
        """Return what was confirmed and is not done, or was done and not confirmed."""
        found = {row["id"]: row for row in self._found()}
        missing: list[object] = sorted(self.taken ^ found.keys())
        return missing + [row for name, row in found.items() if row["outcome"] != "done" and name not in self._unserved]

    def _found(self) -> list[dict[str, Any]]:
        return self._stage.fleet.rows(_REQUESTS)

    def _answered(self) -> bool:
        answered = {row["id"] for row in self._found() if row["outcome"] is not None}
        return self.taken <= answered

    def _insist(self) -> None:
        def taken() -> bool:
            asyncio.run(self._again())
            return not self.refused

        self._stage.fleet.until(taken)

    async def _fill(self) -> None:
        transport = self._opened()
        try:
            for _ in range(_MOST):
                if not await self._offer(transport, self._request()):
                    return
        finally:
            await transport.close()
        raise AssertionError(f"{_MOST} requests are taken by a queue that has room for one")

    async def _again(self) -> None:
        transport, waiting = self._opened(), self.refused
        self.refused = []
        try:
            for message in waiting:
                await self._offer(transport, message)
        finally:
            await transport.close()

    async def _offer(self, transport: AmqpTransport, message: Message) -> bool:
        """Publish until the broker has said yes or no."""
        try:
            async with asyncio.timeout(STARTING):
                while not (taken := await transport.publish([message])) and not isinstance(transport.trouble, NotTaken):
                    await self._clock.sleep(0.2)
        except TimeoutError:
            raise AssertionError(f"the broker says neither yes nor no: {transport.trouble}") from None
        self._note(taken, message)
        return bool(taken)

    def _note(self, taken: Sequence[Message], message: Message) -> None:
        if taken:
            self.taken.add(message.id)
        else:
            self.refused.append(message)

    def _opened(self) -> AmqpTransport:
        url = self._stage.up().url(self._stage.fleet.vhost.name, LOGIN)
        return AmqpTransport(url, LOGIN, _SOURCE, self._clock)

    def _request(self) -> Message:
        event, name = MoveRequested(mailbox=self._mailbox), new_id()
        envelope = enclose(
            event, event_id=name, source=_SOURCE, time=self._clock.now(), correlation=None, causation=None
        )
        return Message(LOGIN, _SOURCE, name, event.type, envelope.correlation, serialise(envelope))
