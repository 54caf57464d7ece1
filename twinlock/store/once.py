"""Inserting what may be there already, on SQLite and PostgreSQL alike."""

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite

from twinlock.store.unit import Reader


def insert_once(reader: Reader, table: Table) -> sqlite.Insert | postgresql.Insert:
    """Return an insert that leaves an existing row of the same key as it is."""
    if reader.connection.dialect.name == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing()
    return sqlite.insert(table).on_conflict_do_nothing()
