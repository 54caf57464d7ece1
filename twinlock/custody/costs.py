"""What a tenant's vaults cost: the operations of a month, the keys that there are, and a table of prices."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time

from sqlalchemy import func, select

from schemas.identifiers import PolicyState, Workload
from twinlock.custody.decision import AvailabilityKeyState
from twinlock.keys.uris import vault_of
from twinlock.store.pruning import prune
from twinlock.store.tables.content import containers
from twinlock.store.tables.custody import (
    audit_entries,
    availability_keys,
    policies,
    revocations,
    root_keys,
    vault_operations,
)
from twinlock.store.unit import Reader, Store


@dataclass(frozen=True, slots=True)
class Price:
    """Say what a vault costs, in US dollars."""

    per_10000_operations: float = 0.0
    per_key_and_month: float = 0.0


_EVERY = 10_000.0  # operations, the unit in which vendors price them
_FREE = {"local": Price()}
_DESTROYED = "availability-key-destroyed"  # the entry of the audit log


@dataclass(frozen=True, slots=True)
class CostSettings:
    """Hold the price table: by vault (`bao+https://HOST:PORT`), or else by scheme (`bao+https`), or else `other`.

    An embedded vault costs nothing unless the table says so.
    """

    other: Price = field(default_factory=lambda: Price(0.03, 1.0))  # what the large clouds ask for a key in an HSM
    prices: Mapping[str, Price] = field(default_factory=dict)

    def of(self, vault: str) -> Price:
        """Return the price of a vault."""
        for name in (vault, vault.partition(":")[0]):
            if found := self.prices.get(name, _FREE.get(name)):
                return found
        return self.other


@dataclass(frozen=True, slots=True)
class Month:
    """Name a month, from its first day to the first of the next."""

    first: date

    @property
    def end(self) -> date:
        """Return the first day that is not in it."""
        year, month = divmod(self.first.year * 12 + self.first.month, 12)
        return date(year, month + 1, 1)

    def __str__(self) -> str:
        return f"{self.first:%Y-%m}"


@dataclass(frozen=True, slots=True)
class VaultCost:
    """Hold what one vault did for a tenant in a month, and what that costs."""

    vault: str
    operations: Mapping[str, int]
    keys: int
    price: Price

    @property
    def count(self) -> int:
        """Return how often it was asked."""
        return sum(self.operations.values())

    @property
    def usd(self) -> float:
        """Return what it costs."""
        return self.count / _EVERY * self.price.per_10000_operations + self.keys * self.price.per_key_and_month


@dataclass(slots=True)
class Share:
    """Add up what was asked for one policy, or on one day, and what the operations alone cost: keys are not in it."""

    operations: int = 0
    usd: float = 0.0

    def add(self, count: int, price: Price) -> None:
        """Add operations of one vault."""
        self.operations += count
        self.usd += count / _EVERY * price.per_10000_operations


@dataclass(frozen=True, slots=True)
class Shares:
    """Hold the operations of a month by policy, by its name or else its id, and by day; only where there were any."""

    policies: Mapping[str, Share]
    days: Mapping[date, Share]


async def shares_of(reader: Reader, tenant_id: str, month: Month, settings: CostSettings) -> Shares:
    """Return which policies and days the operations of a month were for."""
    row = vault_operations.c
    asked = (
        select(row.day, row.policy_id, policies.c.name, row.vault, func.sum(row["count"]).label("asked"))
        .outerjoin(policies, policies.c.id == row.policy_id)
        .where(row.tenant_id == tenant_id, row.day >= month.first, row.day < month.end)
        .group_by(row.day, row.policy_id, policies.c.name, row.vault)
    )
    by_policy, by_day = defaultdict[str, Share](Share), defaultdict[date, Share](Share)
    for line in await reader.rows(asked):
        for share in (by_policy[line.name or line.policy_id], by_day[line.day]):
            share.add(int(line.asked), settings.of(line.vault))
    return Shares(dict(sorted(by_policy.items())), dict(sorted(by_day.items())))


async def costs_of(reader: Reader, tenant_id: str, month: Month, settings: CostSettings) -> list[VaultCost]:
    """Return what each vault costs a tenant, by the vault's name, with the keys that there were in it."""
    operations: defaultdict[str, dict[str, int]] = defaultdict(dict)
    row = vault_operations.c
    asked = (
        select(row.vault, row.operation, func.sum(row["count"]).label("asked"))
        .where(row.tenant_id == tenant_id, row.day >= month.first, row.day < month.end)
        .group_by(row.vault, row.operation)
        .order_by(row.vault, row.operation)
    )
    for line in await reader.rows(asked):
        operations[line.vault][line.operation] = int(line.asked)
    keys = {vault: len(found) for vault, found in (await _keys(reader, tenant_id, month)).items()}
    vaults = sorted({*operations, *keys})
    return [VaultCost(vault, operations[vault], keys.get(vault, 0), settings.of(vault)) for vault in vaults]


async def forget(store: Store, before: date) -> int:
    """Forget what was asked on days before this one, and count the rows."""
    return await prune(store, vault_operations.c.day, before)


async def users_of(reader: Reader, tenant_id: str) -> int:
    """Return how many users share the costs: a tenant's mailboxes, whose people are those of its sites as well."""
    owned = (containers.c.tenant_id == tenant_id, containers.c.workload == Workload.MAILBOX)
    return int(await reader.scalar(select(func.count()).where(*owned)))


async def _keys(reader: Reader, tenant_id: str, month: Month) -> Mapping[str, set[str]]:
    """Return the keys that there were in a month, by vault: made before its end, and not over before its first day."""
    first, end = (datetime.combine(day, time(), UTC) for day in (month.first, month.end))
    own = (policies.c.tenant_id == tenant_id, policies.c.created_at < end)
    root, kept = root_keys.c, availability_keys.c
    roots = select(root.policy_id, root.uri).join(policies, policies.c.id == root.policy_id)
    availability = select(kept.policy_id, kept.uri, kept.state).join(policies, policies.c.id == kept.policy_id)
    purged = await _purged(reader, tenant_id)
    uris = [row.uri for row in await reader.rows(roots.where(*own)) if purged.get(row.policy_id, end) >= first]
    rows = await reader.rows(availability.where(*own))
    over = {(row.policy_id, row.uri) for row in rows if row.state == AvailabilityKeyState.DESTROYED}
    destroyed = await _destroyed(reader, tenant_id) if over else {}
    for row in rows:
        key = (row.policy_id, row.uri)
        if key not in over or (key in destroyed and destroyed[key] >= first):
            uris.append(row.uri)
    found: defaultdict[str, set[str]] = defaultdict(set)
    for uri in uris:
        found[vault_of(uri)].add(uri)
    return found


async def _purged(reader: Reader, tenant_id: str) -> Mapping[str, datetime]:
    """Say when a tenant's policies were purged."""
    row = revocations.c
    ended = select(row.policy_id, row.at).join(policies, policies.c.id == row.policy_id)
    own = (policies.c.tenant_id == tenant_id, row.state == PolicyState.PURGED)
    return {each.policy_id: each.at for each in await reader.rows(ended.where(*own))}


async def _destroyed(reader: Reader, tenant_id: str) -> Mapping[tuple[str, str], datetime]:
    """Say when a tenant's availability keys were destroyed, as far as the audit log still tells."""
    row = audit_entries.c
    mine = (row.tenant_id == tenant_id, row.kind == _DESTROYED)
    told = select(row.policy_id, row.at, row.detail).where(*mine).order_by(row.at)
    return {(each.policy_id, each.detail["uri"]): each.at for each in await reader.rows(told)}
