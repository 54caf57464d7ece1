"""What people do in an installation, whatever comes of it."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from random import Random

from sqlalchemy import insert

from cli.wiring.parts import Parts, build
from events.answers import Answer
from schemas.event import Event
from schemas.identifiers import PROVIDER, SERVICE_POLICIES, AvailabilityMode, MailboxKind, RequestOutcome, Workload
from schemas.requests import PolicyRequested
from tests.model.containers import GEO, Content, Source, is_site
from tests.model.installation import CAUSE, MAC_KEY, Installation
from tests.model.policies import Policy
from twinlock.approvals.installation import ensure_installation
from twinlock.approvals.rows import find_approval
from twinlock.approvals.statement import parse
from twinlock.content.mailboxes import NewMailbox
from twinlock.content.paths import shown_path
from twinlock.content.sites import NewSite
from twinlock.custody.audit.inspection import Inspection
from twinlock.custody.audit.reading import inspect
from twinlock.custody.audit.sealing import Sealer
from twinlock.custody.errors import CustodyError, KeyNotYet
from twinlock.custody.port import USER, Asker
from twinlock.errors import NotFound
from twinlock.store.tables.tenants import tenants

ASKER = Asker(USER, CAUSE)


class People(Installation):
    """Ask, sign, import and read; nothing here knows what has to come of it."""

    def __init__(self, folder: Path, template: Path, order: Random) -> None:
        super().__init__(folder, template, order)
        self._sources = 0
        self.put_off = False  # the last read, and not refused

    async def furnish(self, policies: Mapping[str, Policy]) -> None:
        """Make tenants, approvers, and policies with their keys."""
        await self.lay()
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
        wanted = [_own(workload, name) for workload, name in SERVICE_POLICIES.items()]
        for each in policies.values():
            geo = GEO if each.workload is Workload.SITE else None
            asked = {"name": each.name, "workload": each.workload, "mode": each.mode, "keys": each.keys, "geo": geo}
            wanted.append(PolicyRequested(tenant="acme", **asked))
        for uri in (uri for each in wanted for uri in each.keys):
            await self.vault.create_root_key(uri)
        for request in [await self.publish(each) for each in wanted]:
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

    async def add(self, name: str) -> None:
        """Add a mailbox or a site."""
        while not await self.moving(self._add(name)):
            pass

    async def _add(self, name: str) -> bool:
        tenant, _, own = name.partition("/")
        try:
            if is_site(name):
                await self.parts.sites.add(NewSite(own, tenant, GEO), ASKER)
            else:
                await self.parts.mailboxes.add(NewMailbox(name, "acme", MailboxKind.USER, licensed=True), ASKER)
        except KeyNotYet:  # on a busy machine the clock has moved past the deadline
            return False
        return True

    def source(self, mails: list[int]) -> tuple[Path, Source]:
        """Make a folder of mails; the same number is the same mail."""
        self._sources += 1
        folder = self.folder / f"source-{self._sources}"
        folder.mkdir()
        bodies = {
            f"{place}.eml": f"Subject: {self._sources}\n\nmail {number}\n".encode()
            for place, number in enumerate(mails)
        }
        for path, body in bodies.items():
            (folder / path).write_bytes(body)
        return folder, bodies

    async def bring(self, name: str, source: Path) -> bool:
        """Import a folder; tell whether that was acknowledged."""
        try:
            await self.moving(self._import(name, source))
        except (CustodyError, NotFound):
            return False
        return True

    async def _import(self, name: str, source: Path) -> None:
        if is_site(name):
            report = await self.parts.site_importer.run(name, source, ASKER, lambda report: None)
            assert 0 == report.failed.count, report
        else:
            await self.parts.importer.run(name, source, ASKER, lambda report: None)

    async def bring_killed(self, name: str, source: Path, turns: int) -> bool:
        """Import a folder while everything is killed; tell whether that was acknowledged."""
        task = asyncio.get_running_loop().create_task(self._import(name, source))
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

    async def read(self, name: str, *, fresh: bool) -> Content | None:
        """Read a container as a person does, in a `fresh` process or in one that holds keys; none where refused."""
        parts = self.parts
        if fresh:
            parts = build(parts.settings, self.clock, self.store, parts.custodian)
        self.put_off = False
        try:
            return await self.moving(_files(parts, name) if is_site(name) else _items(parts, name))
        except (CustodyError, NotFound) as no:
            self.put_off = isinstance(no, KeyNotYet)
            return None

    async def inspected(self) -> Inspection:
        """Seal the audit log, and look through it."""
        await Sealer(self.store, self.sealer_key, "test", publishes=False).pass_once(insist=True)
        inspection = Inspection(MAC_KEY, self.sealer_key.public)
        async with self.store.read() as reader:
            await inspect(reader, inspection)
        return inspection


def _own(workload: Workload, name: str) -> PolicyRequested:
    keys = (f"memory://provider-a/{name}", f"memory://provider-b/{name}")
    return PolicyRequested(tenant=PROVIDER, name=name, workload=workload, mode=AvailabilityMode.STANDARD, keys=keys)


async def _items(parts: Parts, address: str) -> Content:
    ids = [item.id async for item in parts.items.list(address)]
    return Counter([("", b"".join([chunk async for chunk in parts.items.get(address, each, ASKER)])) for each in ids])


async def _files(parts: Parts, site: str) -> Content:
    paths = [file.path async for file in parts.files.list(site)]
    return Counter(
        [(shown_path(path), b"".join([chunk async for chunk in parts.files.get(site, path, ASKER)])) for path in paths]
    )
