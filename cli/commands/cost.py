"""`twinlock cost`: what a tenant's vaults were asked in a month, and what that costs for each user."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from sqlalchemy import select

from cli.command import command
from cli.commands import names
from cli.options import Tenant
from cli.output import Result, Table, fields
from cli.session import Session
from twinlock.custody.costs import Month, Share, Shares, VaultCost, costs_of, shares_of, users_of
from twinlock.errors import NotFound
from twinlock.store.tables.tenants import tenants
from twinlock.store.unit import Reader

_DIGITS = 6  # a share of a month is often less than a cent
_SHARES = ("policy", "operations", "usd_of_operations")
_COLUMNS = ("vault", "operations", "keys", "usd_per_10000_operations", "usd_per_key_month", "usd")


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    command(app, "cost")(cost)


async def cost(
    session: Session,
    tenant: Tenant,
    month: Annotated[
        str | None, typer.Option("--month", metavar="YYYY-MM", help="The month in UTC; default: this one.")
    ] = None,
) -> Result:
    """Show a tenant's vault operations in a month, and what they cost per user; prices are in the settings."""
    parts = session.parts
    during = names.month(month) if month else Month(parts.clock.now().date().replace(day=1))
    async with parts.store.read() as reader:
        tenant_id = await _tenant_id(reader, tenant)
        found = await costs_of(reader, tenant_id, during, parts.settings.cost)
        shares = await shares_of(reader, tenant_id, during, parts.settings.cost)
        users = await users_of(reader, tenant_id)
    document = _document(tenant, during, found, users) | _shares(shares)
    shown = {name: value for name, value in document.items() if not isinstance(value, list)}
    tables = [_table(document, name, columns) for name, columns in (("vaults", _COLUMNS), ("policies", _SHARES))]
    return Result(document, [fields(shown), *tables])


def _table(document: dict[str, Any], name: str, columns: Sequence[str]) -> Table:
    rows = [[each[column] for column in columns] for each in document[name]]
    return Table(columns, rows, "nothing was asked", f"\n{name}")


async def _tenant_id(reader: Reader, name: str) -> str:
    found: str | None = await reader.scalar(select(tenants.c.id).where(tenants.c.name == name))
    if found is None:
        raise NotFound(f"there is no tenant {name}", hint=f"add it: twinlock tenant add {name}")
    return found


def _document(tenant: str, month: Month, found: Sequence[VaultCost], users: int) -> dict[str, Any]:
    usd = sum((vault.usd for vault in found), 0.0)
    return {
        "tenant": tenant,
        "month": str(month),
        "operations": sum(vault.count for vault in found),
        "keys": sum(vault.keys for vault in found),
        "users": users,
        "usd": round(usd, _DIGITS),
        "usd_per_user_month": round(usd / users, _DIGITS) if users else None,
        "vaults": [_vault(vault) for vault in found],
    }


def _vault(cost: VaultCost) -> dict[str, Any]:
    return {
        "vault": cost.vault,
        "operations": cost.count,
        "by_operation": dict(cost.operations),
        "keys": cost.keys,
        "usd_per_10000_operations": cost.price.per_10000_operations,
        "usd_per_key_month": cost.price.per_key_and_month,
        "usd": round(cost.usd, _DIGITS),
    }


def _shares(shares: Shares) -> dict[str, Any]:
    return {
        "policies": [{"policy": name, **_share(share)} for name, share in shares.policies.items()],
        "days": [{"day": str(day), **_share(share)} for day, share in shares.days.items()],
    }


def _share(share: Share) -> dict[str, Any]:
    return {"operations": share.operations, "usd_of_operations": round(share.usd, _DIGITS)}
