"""Outside publishers: which login of the broker may ask for what, and for which tenants."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import Table, delete, exists, insert, select, update

from schemas.names import OPERATOR, WORKERS
from schemas.routing import LOCAL
from twinlock.errors import NotFound, TwinlockError
from twinlock.store.once import insert_once
from twinlock.store.tables.publishers import publisher_tenants, publisher_types, publishers
from twinlock.store.tables.tenants import tenants
from twinlock.store.unit import Reader, Unit

RESERVED = WORKERS | {OPERATOR, LOCAL}


class ReservedLogin(TwinlockError):
    """Refuse to register one of our own logins: a worker tells facts and asks for nothing."""

    def __init__(self, user: str) -> None:
        super().__init__(f"{user} is a login of the fleet itself", hint="give the publisher a login of its own")


class UnknownPublisher(NotFound):
    """Refuse to remove a publisher that is not there."""

    def __init__(self, user: str) -> None:
        super().__init__(f"there is no publisher {user}", hint="see: twinlock publisher list")


@dataclass(frozen=True, slots=True)
class Registration:
    """Say what one login may ask for: types of requests, and tenants by name, or all there are and will be."""

    user: str
    tenants: tuple[str, ...]
    all_tenants: bool
    may: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rights:
    """Hold a publisher's rights as to one type of request; `tenants` are ids."""

    may: bool
    all_tenants: bool
    tenants: frozenset[str]

    def cover(self, concerned: Collection[str]) -> bool:
        """Tell whether every tenant is covered; a request that concerns nobody is covered by all tenants alone."""
        return self.all_tenants or (bool(concerned) and self.tenants.issuperset(concerned))


async def register(unit: Unit, wanted: Registration) -> None:
    """Register a publisher, in place of what it had; raise `ReservedLogin`, or `NotFound` for a tenant."""
    if wanted.user in RESERVED:
        raise ReservedLogin(wanted.user)
    found = [await _tenant_id(unit, name) for name in dict.fromkeys(wanted.tenants)]
    state = {"all_tenants": wanted.all_tenants, "added_at": unit.clock.now()}
    await unit.execute(insert_once(unit, publishers).values(user=wanted.user, **state))
    # Also where it was there: whoever replaces it at the same moment waits here.
    await unit.execute(update(publishers).where(publishers.c.user == wanted.user).values(state))
    await _fill(unit, publisher_tenants, wanted.user, [{"tenant_id": tenant} for tenant in found])
    await _fill(unit, publisher_types, wanted.user, [{"type": name} for name in dict.fromkeys(wanted.may)])


async def _fill(unit: Unit, table: Table, user: str, rows: Sequence[dict[str, str]]) -> None:
    await unit.execute(delete(table).where(table.c.user == user))
    if rows:
        await unit.execute(insert(table), [{"user": user, **row} for row in rows])


async def remove(unit: Unit, user: str) -> None:
    """Take all rights from a publisher; what it was granted before is still carried out. Raise `UnknownPublisher`."""
    if not (await unit.execute(delete(publishers).where(publishers.c.user == user))).rowcount:
        raise UnknownPublisher(user)


async def listing(reader: Reader) -> Sequence[Registration]:
    """Return every publisher by its login."""
    found = await reader.rows(select(publishers).order_by(publishers.c.user))
    named = await reader.rows(
        select(publisher_tenants.c.user, tenants.c.name)
        .join(tenants, tenants.c.id == publisher_tenants.c.tenant_id)
        .order_by(tenants.c.name)
    )
    typed = await reader.rows(select(publisher_types).order_by(publisher_types.c.type))
    return [
        Registration(
            row.user,
            tuple(other.name for other in named if other.user == row.user),
            row.all_tenants,
            tuple(other.type for other in typed if other.user == row.user),
        )
        for row in found
    ]


async def rights(reader: Reader, user: str, event_type: str) -> Rights | None:
    """Return a publisher's rights, or none where it is not registered.

    One statement sees one state: half of an old registration and half of its replacement would be a third.
    """
    may = exists().where(publisher_types.c.user == publishers.c.user, publisher_types.c.type == event_type)
    rows = await reader.rows(
        select(publishers.c.all_tenants, may.label("may"), publisher_tenants.c.tenant_id)
        .outerjoin(publisher_tenants, publisher_tenants.c.user == publishers.c.user)
        .where(publishers.c.user == user)
    )
    if not rows:
        return None
    covered = frozenset(row.tenant_id for row in rows if row.tenant_id is not None)
    return Rights(bool(rows[0].may), rows[0].all_tenants, covered)


async def _tenant_id(reader: Reader, name: str) -> str:
    found = await reader.scalar(select(tenants.c.id).where(tenants.c.name == name))
    if not isinstance(found, str):
        raise NotFound(f"there is no tenant {name}", hint=f"add it: twinlock tenant add {name}")
    return found
