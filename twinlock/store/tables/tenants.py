"""Tenants; owned by the administration commands."""

from sqlalchemy import Boolean, Column, String, Table

from twinlock.store.tables.base import UtcDateTime, metadata

tenants = Table(
    "tenants",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", String(100), nullable=False, unique=True),
    Column("trial", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)
