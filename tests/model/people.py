"""What people do in an installation, whatever comes of it."""

import asyncio
from collections import Counter
from pathlib import Path
from random import Random

from sqlalchemy import insert

from cli.wiring.parts import Parts, build
from events.answers import Answer
from schemas.event import Event
from schemas.identifiers import PROVIDER, SERVICE_POLICY, AvailabilityMode, MailboxKind, RequestOutcome, Workload
from schemas.requests import PolicyRequested
from tests.model.installation import CAUSE, MAC_KEY, Installation
from twinlock.approvals.installation import ensure_installation
from twinlock.approvals.rows import find_approval
from twinlock.approvals.statement import parse
from twinlock.content.mailboxes import NewMailbox
from twinlock.custody.auditing import inspect
from twinlock.custody.errors import CustodyError
from twinlock.custody.inspection import Inspection
from twinlock.custody.port import USER, Asker
from twinlock.custody.sealing import Sealer
from twinlock.errors import NotFound
from twinlock.store.tables.tenants import tenants

ASKER = Asker(USER, CAUSE)


class People(Installation):
    """Ask, sign, import and read; nothing here knows what has to come of it."""

    def __init__(self, folder: Path, template: Path, order: Random) -> None:
        super().__init__(folder, template, order)
        self._sources = 0

    async def furnish(self, policies: dict[str, tuple[AvailabilityMode, tuple[str, str]]]) -> None:
        """Make tenants, approvers, and policies with their keys."""
        async with self.store.begin(CAUSE) as unit:
            rows = [
                {"id": name, "name": name, "trial": False, "created_at": self.clock.now()}
                for name in (PROVIDER, "acme")
            ]
            await unit.execute(insert(tenants), rows)
            await ensure_installation(unit)
        await self.start()
        for name, key in self.signers.items():
            await self.acts.add_approver(CAUSE, "acme", name, key.public)
        own = {SERVICE_POLICY: (AvailabilityMode.STANDARD, ("memory://provider-a/key", "memory://provider-b/key"))}
        requests = []
        for name, (mode, keys) in (own | policies).items():
            for uri in keys:
                await self.vault.create_root_key(uri)
            tenant = PROVIDER if name == SERVICE_POLICY else "acme"
            wanted = PolicyRequested(tenant=tenant, name=name, workload=Workload.MAILBOX, mode=mode, keys=keys)
            requests.append(await self.publish(wanted))
        for request in requests:
            answered = await self.staff.answer(request)
            assert RequestOutcome.DONE == answered.outcome, answered

    async def publish(self, event: Event) -> str:
        """Ask for something."""
        return await self.parts.publisher.request(event)

    async def ask(self, event: Event) -> Answer:
        """Ask for something, and wait for the answer."""
        return await self.moving(self._ask(event))

    async def _ask(self, event: Event) -> Answer:
        return await self.staff.answer(await self.publish(event))

    async def sign(self, request: str, name: str) -> None:
        """Have an approver sign."""
        async with self.store.read() as reader:
            said = parse((await find_approval(reader, request)).statement)
        await self.moving(self._approve(request, name, self.signers[name].sign(said.label, said.body)))

    async def _approve(self, request: str, name: str, signature: bytes) -> None:
        await self.acts.approve(CAUSE, request, name, signature)

    async def add_box(self, address: str) -> None:
        """Add a mailbox."""
        await self.moving(self.parts.mailboxes.add(NewMailbox(address, "acme", MailboxKind.USER, licensed=True), ASKER))

    def source(self, mails: list[int]) -> tuple[Path, Counter[bytes]]:
        """Make a folder of mails; the same number is the same mail."""
        self._sources += 1
        bodies = [f"Subject: {self._sources}\n\nmail {number}\n".encode() for number in mails]
        folder = self.folder / f"source-{self._sources}"
        folder.mkdir()
        for number, body in enumerate(bodies):
            (folder / f"{number}.eml").write_bytes(body)
        return folder, Counter(bodies)

    async def bring(self, address: str, source: Path) -> bool:
        """Import a folder; tell whether that was acknowledged."""
        try:
            await self.moving(self._import(address, source))
        except (CustodyError, NotFound):
            return False
        return True

    async def _import(self, address: str, source: Path) -> None:
        await self.parts.importer.run(address, source, ASKER, lambda report: None)

    async def bring_killed(self, address: str, source: Path, turns: int) -> bool:
        """Import a folder while everything is killed; tell whether that was acknowledged."""
        task = asyncio.get_running_loop().create_task(self._import(address, source))
        await self.turns(turns)
        task.cancel()
        await asyncio.wait({task})
        await self.crash()
        if task.cancelled():
            return False
        failure = task.exception()
        if failure is not None and not isinstance(failure, CustodyError | NotFound):
            raise failure
        return failure is None

    async def read(self, address: str, *, fresh: bool) -> Counter[bytes] | None:
        """Read a mailbox as a person does, in a `fresh` process or in one that holds keys; none where it is refused."""
        parts = self.parts
        if fresh:
            parts = build(parts.settings, self.clock, self.store, parts.custodian)
        try:
            return await self.moving(_content(parts, address))
        except (CustodyError, NotFound):
            return None

    async def inspected(self) -> Inspection:
        """Seal the audit log, and look through it."""
        await Sealer(self.store, self.sealer_key, "test", publishes=False).pass_once(insist=True)
        inspection = Inspection(MAC_KEY, self.sealer_key.public)
        async with self.store.read() as reader:
            await inspect(reader, inspection)
        return inspection


async def _content(parts: Parts, address: str) -> Counter[bytes]:
    ids = [item.id async for item in parts.items.list(address)]
    return Counter([b"".join([chunk async for chunk in parts.items.get(address, each, ASKER)]) for each in ids])
