"""The tables, grouped by the part that owns and writes them; importing this package makes `metadata` complete."""

from twinlock.store.tables import alerts, approvals, bus, content, custody, publishers, purges, shape, tenants, work
from twinlock.store.tables.base import metadata

__all__ = [
    "alerts",
    "approvals",
    "bus",
    "content",
    "custody",
    "metadata",
    "publishers",
    "purges",
    "shape",
    "tenants",
    "work",
]
