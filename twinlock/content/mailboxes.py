"""Mailboxes as a whole: add, describe, list and remove. Every mailbox starts under the provider's service policy."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from sqlalchemy import select

from schemas.identifiers import PROVIDER, SERVICE_POLICIES, MailboxKind, Workload
from twinlock.content import containers, generations
from twinlock.content.containers import Container
from twinlock.content.deleting import delete_items, note_removal, remove_empty
from twinlock.content.sealing import DESCRIBED, Stored, bounded
from twinlock.content.settings import ContentSettings
from twinlock.custody.audit.log import AuditLog
from twinlock.custody.port import Asker, ContainerRef, Custodian
from twinlock.errors import AlreadyExists, NotFound, TwinlockError
from twinlock.store.once import insert_once
from twinlock.store.tables import content as tables
from twinlock.store.tables.custody import policies
from twinlock.store.tables.tenants import tenants
from twinlock.store.unit import Cause, Reader, Store, Unit, new_id

_PAGE = 200


@dataclass(frozen=True, slots=True)
class NewMailbox:
    """Say which mailbox is to be added."""

    address: str
    tenant: str
    kind: MailboxKind
    licensed: bool


@dataclass(frozen=True, slots=True)
class MailboxStatus:
    """Describe a mailbox as its administrators see it.

    `policy` is None under the service policy. `state` is `encrypted`, `re-encrypting`, or `service` (under the
    provider's own keys alone).
    """

    address: str
    tenant: str
    kind: MailboxKind | None
    licensed: bool
    policy: str | None
    policy_version: int
    items: int
    items_encrypted: int
    state: str

    @property
    def is_encrypted(self) -> bool:
        """Tell whether a customer policy protects it and every item is under its key."""
        return self.policy is not None and self.items == self.items_encrypted

    @property
    def percent(self) -> float:
        """Return how much of it is under its newest key; an empty mailbox is done."""
        return 100.0 if not self.items else int(1000 * self.items_encrypted / self.items) / 10


class Mailboxes:
    """Add, describe, list and remove mailboxes."""

    def __init__(self, store: Store, custodian: Custodian, settings: ContentSettings) -> None:
        self._store = store
        self._custodian = custodian
        self._settings = settings

    async def add(self, new: NewMailbox, asker: Asker) -> None:
        """Add an empty mailbox under the service policy; raise `AlreadyExists` or `NotFound`, as the custodian does."""
        async with self._store.read() as reader:
            tenant_id = await tenant_id_of(reader, new.tenant)
            await _refuse_taken(reader, new.address)
            service = await service_policy(reader, Workload.MAILBOX)
        ref = ContainerRef(tenant_id, new_id(), 1)
        (made,) = await self._custodian.make_container_keys([ref], service, asker)
        async with self._store.begin(asker.cause) as unit:
            await _refuse_taken(unit, new.address)
            # Two at once both find the address free; the second one waits here for the first.
            added = await unit.execute(insert_once(unit, tables.containers).values(_row(unit, new, ref, service)))
            if not added.rowcount:
                raise _taken(new.address)
            await generations.add_generation(unit, made)

    async def show(self, address: str) -> MailboxStatus:
        """Describe one mailbox."""
        async with self._store.read() as reader:
            mailbox = await containers.find_mailbox(reader, address)
            return _status(mailbox, await service_policy(reader, Workload.MAILBOX))

    async def list(self, tenant: str) -> AsyncIterator[MailboxStatus]:
        """Yield the mailboxes of a tenant by address."""
        last = ""
        while True:
            async with self._store.read() as reader:
                tenant_id = await tenant_id_of(reader, tenant)
                service = await service_policy(reader, Workload.MAILBOX)
                page = await containers.page(reader, tenant_id, Workload.MAILBOX, last, _PAGE)
            for mailbox in page:
                yield _status(mailbox, service)
            if len(page) < _PAGE:
                return
            last = page[-1].name

    async def remove(self, address: str, cause: Cause, audit: AuditLog | None = None) -> int:
        """Remove a mailbox with all its items, also while a step re-encrypts them; return how many items it had.

        The items go in bounded transactions, so that a large mailbox holds up nobody (law 12), and the mailbox in the
        last one. Cut off in the middle, it is there with what is left of it, and another removal goes on.
        """
        async with self._store.read() as reader:
            mailbox = await containers.find_mailbox(reader, address)
        removed = 0
        while True:
            async with self._store.begin(cause) as unit:
                locked = await containers.lock(unit, mailbox.id)
                if locked is None:
                    raise NotFound(f"there is no mailbox {address}")
                gone = await delete_items(unit, locked, await _first_items(unit, locked, self._settings))
                removed += len(gone)
                if len(gone) == locked.items:
                    await remove_empty(unit, locked)
                    await note_removal(unit, "mailbox-removed", locked, removed, audit)
                    return removed


async def _first_items(unit: Unit, locked: Container, settings: ContentSettings) -> list[str]:
    query = (
        select(*(tables.items.c[name] for name in DESCRIBED))
        .where(tables.items.c.container_id == locked.id)
        .order_by(tables.items.c.id)
        .limit(settings.batch_items)
    )
    found = [Stored.of(row) for row in await unit.rows(query)]
    return [item.id for item in bounded(found, settings.batch_bytes)]


async def service_policy(reader: Reader, workload: Workload) -> str:
    """Return the id of the provider's own policy for a workload."""
    found = await reader.scalar(
        select(policies.c.id)
        .join(tenants)
        .where(tenants.c.name == PROVIDER, policies.c.name == SERVICE_POLICIES[workload])
    )
    if not isinstance(found, str):
        raise TwinlockError("this installation has no service policy yet", hint="run: twinlock init")
    return found


async def tenant_id_of(reader: Reader, name: str) -> str:
    """Return the id of a tenant, or raise `NotFound`."""
    found = await reader.scalar(select(tenants.c.id).where(tenants.c.name == name))
    if not isinstance(found, str):
        raise NotFound(f"there is no tenant {name}", hint=f"add it: twinlock tenant add {name}")
    return found


async def _refuse_taken(reader: Reader, address: str) -> None:
    taken = select(tables.containers.c.id).where(
        tables.containers.c.workload == Workload.MAILBOX, tables.containers.c.name == address
    )
    if await reader.row(taken) is not None:
        raise _taken(address)


def _taken(address: str) -> AlreadyExists:
    return AlreadyExists(f"the mailbox {address} exists", hint=f"see it: twinlock mailbox show {address}")


def _row(unit: Unit, new: NewMailbox, ref: ContainerRef, policy_id: str) -> dict[str, object]:
    return {
        "id": ref.container_id,
        "tenant_id": ref.tenant_id,
        "workload": Workload.MAILBOX,
        "name": new.address,
        "kind": new.kind,
        "licensed": new.licensed,
        "policy_id": policy_id,
        "newest_generation": ref.generation,
        "version": 1,
        "created_at": unit.clock.now(),
    }


def _status(mailbox: Container, service: str) -> MailboxStatus:
    policy = None if mailbox.policy_id == service else mailbox.policy_id
    done = mailbox.newest.items
    settled = "service" if policy is None else "encrypted"
    return MailboxStatus(
        address=mailbox.name,
        tenant=mailbox.tenant,
        kind=mailbox.kind,
        licensed=mailbox.licensed,
        policy=policy,
        policy_version=mailbox.newest.policy_key_generation,
        items=mailbox.items,
        items_encrypted=done,
        state="re-encrypting" if mailbox.items > done else settled,
    )
