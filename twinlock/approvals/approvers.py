"""The approvers of a tenant as they are stored: rows that are replayed, and believed only as far as they verify."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, insert, select

from twinlock.approvals.chain import Approvers, BrokenChain, Change, Link, Origin, Signature, replay
from twinlock.approvals.errors import BrokenApprovers
from twinlock.approvals.installation import read_installation
from twinlock.errors import NotFound
from twinlock.keys.signing import fingerprint
from twinlock.store.tables.approvals import approver_changes
from twinlock.store.tables.tenants import tenants
from twinlock.store.unit import Reader, Unit


@dataclass(frozen=True, slots=True)
class Tenant:
    """Name a tenant."""

    id: str
    name: str


async def find_tenant(reader: Reader, name: str) -> Tenant:
    """Return a tenant by its name; raise `NotFound`."""
    found = await reader.scalar(select(tenants.c.id).where(tenants.c.name == name))
    if not isinstance(found, str):
        raise NotFound(f"there is no tenant {name}", hint=f"add it: twinlock tenant add {name}")
    return Tenant(found, name)


async def lock_tenant(unit: Unit, tenant_id: str) -> None:
    """Let nobody else change the approvers or the requests of a tenant for the rest of the transaction."""
    await unit.row(select(tenants.c.id).where(tenants.c.id == tenant_id).with_for_update(key_share=True))


async def read_approvers(reader: Reader, tenant_id: str, at: datetime | None = None) -> Approvers:
    """Return a tenant's approvers, now or as they were at a moment, every change verified; raise `BrokenApprovers`."""
    origin = Origin(await read_installation(reader), tenant_id)
    changes = approver_changes.c
    query = select(approver_changes).where(changes.tenant_id == tenant_id).order_by(changes.number)
    try:
        links = [(_link(row), row.hash) for row in await reader.rows(query)]
        newest = replay(origin, links)
        # The last one of then, and all before it: the moments of the others may be a wrong clock's.
        last = max((link.number for link, _ in links if at is None or link.at <= at), default=0)
        return newest if at is None else replay(origin, links[:last])
    except BrokenChain as broken:
        raise BrokenApprovers(tenant_id, str(broken)) from None


async def add_link(unit: Unit, approvers: Approvers, link: Link) -> Approvers:
    """Write one more change, which has to follow from the ones before it; raise `BrokenChain` where it does not."""
    after = approvers.follow(link)
    row: Mapping[str, Any] = {
        "tenant_id": approvers.origin.tenant_id,
        "number": link.number,
        "change": link.change.value,
        "name": link.name,
        "fingerprint": fingerprint(link.public_key).hex(),
        "public_key": link.public_key,
        "at": link.at,
        "counts_from": link.counts_from,
        "statement": link.statement,
        "signatures": [[each.fingerprint, each.signature.hex()] for each in link.signatures],
        "hash": after.head,
        "announced": False,
    }
    await unit.execute(insert(approver_changes).values(row))
    return after


def _link(row: Row[Any]) -> Link:
    try:
        signatures = tuple(Signature(signer, bytes.fromhex(signature)) for signer, signature in row.signatures)
        return Link(
            number=row.number,
            change=Change(row.change),
            name=row.name,
            public_key=row.public_key,
            at=row.at,
            counts_from=row.counts_from,
            statement=row.statement,
            signatures=signatures,
        )
    except (TypeError, ValueError):
        raise BrokenChain(row.number, "it can't be read") from None
