"""Inserting what may be there already, on SQLite and PostgreSQL alike."""

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite

from twinlock.store.unit import Reader


def insert_once(reader: Reader, table: Table) -> sqlite.Insert | postgresql.Insert:
    """Return an insert that leaves an existing row of the same key as it is."""
    if reader.connection.dialect.name == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing()
    return sqlite.insert(table).on_conflict_do_nothing()


def insert_adding(reader: Reader, table: Table, column: str) -> sqlite.Insert | postgresql.Insert:
    """Return an insert that adds to this column of an existing row of the same primary key."""
    key = list(table.primary_key.columns)
    if reader.connection.dialect.name == "postgresql":
        new = postgresql.insert(table)
        return new.on_conflict_do_update(index_elements=key, set_={column: table.c[column] + new.excluded[column]})
    row = sqlite.insert(table)
    return row.on_conflict_do_update(index_elements=key, set_={column: table.c[column] + row.excluded[column]})
