"""Which tenants a request concerns: what its publisher needs to have the right to."""

from collections.abc import Awaitable, Callable, Collection
from typing import Any

from sqlalchemy import select

from schemas.event import Event
from schemas.identifiers import SERVICE_POLICIES, Workload
from schemas.requests import (
    AssignmentRequested,
    MoveRequested,
    PolicyRequested,
    PurgeRequested,
    RecoveryRequested,
    RefreshRequested,
    SiteMoveRequested,
)
from twinlock.custody.policies import find_policy
from twinlock.errors import NotFound
from twinlock.store.tables.content import containers
from twinlock.store.tables.tenants import tenants
from twinlock.store.unit import Reader


class NothingThere(Exception):
    """Say that something which the request names does not exist; what, is told to nobody who may not know."""


async def concerned(reader: Reader, event: Event) -> frozenset[str]:
    """Return the ids of every tenant whose policies, mailboxes or sites a request names; raise `NothingThere`."""
    rule = _RULES.get(type(event))
    if rule is None:
        raise NothingThere  # nobody said yet whom such a request concerns: it must not pass for concerning nobody
    return frozenset(await rule(reader, event))


async def _of_creation(reader: Reader, event: PolicyRequested) -> Collection[str]:
    return await _named(reader, event.tenant)


async def _of_assignment(reader: Reader, event: AssignmentRequested) -> Collection[str]:
    found = set(await _mailboxes(reader, event.mailboxes))
    if event.tenant is not None:
        found.update(await _named(reader, event.tenant))
    # A revert takes nothing from the provider: it is about the tenants whose containers go back.
    if event.policy not in SERVICE_POLICIES.values():
        found.update(await _policy(reader, event.policy))
    return found


async def _of_policy(reader: Reader, event: RefreshRequested | RecoveryRequested) -> Collection[str]:
    return await _policy(reader, event.policy)


async def _of_move(reader: Reader, event: MoveRequested) -> Collection[str]:
    return await _mailboxes(reader, [event.mailbox])


async def _of_site_move(reader: Reader, event: SiteMoveRequested) -> Collection[str]:
    site = containers.c
    query = select(site.tenant_id).where(site.workload == Workload.SITE, site.name == event.subject)
    found = await reader.scalar(query)
    if found is None:
        raise NothingThere
    return [found]


_RULES: dict[type[Event], Callable[[Reader, Any], Awaitable[Collection[str]]]] = {
    PolicyRequested: _of_creation,
    AssignmentRequested: _of_assignment,
    RefreshRequested: _of_policy,
    RecoveryRequested: _of_policy,
    PurgeRequested: _of_policy,
    MoveRequested: _of_move,
    SiteMoveRequested: _of_site_move,
}


async def _named(reader: Reader, tenant: str) -> Collection[str]:
    found = await reader.scalar(select(tenants.c.id).where(tenants.c.name == tenant))
    if found is None:
        raise NothingThere
    return [found]


async def _policy(reader: Reader, reference: str) -> Collection[str]:
    try:
        return [(await find_policy(reader, reference)).tenant_id]
    except NotFound:
        raise NothingThere from None


async def _mailboxes(reader: Reader, addresses: Collection[str]) -> Collection[str]:
    mailbox = containers.c
    query = select(mailbox.name, mailbox.tenant_id).where(
        mailbox.workload == Workload.MAILBOX, mailbox.name.in_(addresses)
    )
    rows = await reader.rows(query)
    if len(rows) < len(set(addresses)):
        raise NothingThere
    return {row.tenant_id for row in rows}
