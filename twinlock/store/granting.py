"""Give every role of a database what `roles.py` says, and nothing else; of its owner, after each migration.

A repeat changes nothing, and a role that does not exist is left out: who has one user for all needs none.
"""

from collections.abc import Iterable, Iterator

from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from twinlock.store.roles import OWN_NEW_ROWS, OWN_ROWS, ROLES, rights, role
from twinlock.store.tables import metadata

_THERE = text("SELECT rolname FROM pg_roles WHERE rolname = ANY(:names)")
_POLICIES = text("SELECT tablename, policyname FROM pg_policies WHERE schemaname = current_schema()")
_SHOWN = "everybody_reads"
_VERSION = "alembic_version"  # every process looks whether the database has its shape


async def grant(engine: AsyncEngine) -> list[str]:
    """Give the roles that exist their rights and return these roles; of several processes, one does it at a time."""
    if engine.dialect.name != "postgresql":
        return []
    async with engine.begin() as connection:
        return await connection.run_sync(_grant)


def _grant(connection: Connection) -> list[str]:
    connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended('twinlock roles', 0))"))
    names = {role(_database(connection), login): login for login in ROLES}
    there = sorted(row.rolname for row in connection.execute(_THERE, {"names": list(names)}))
    if there:
        _run(connection, _closed(connection))
        _run(connection, _own_rows(connection, {name: names[name] for name in there}))
    for name in there:
        _run(connection, _granted(connection, name, names[name]))
    return there


def _closed(connection: Connection) -> Iterator[str]:
    """Take from everybody what PostgreSQL gives to everybody who may connect."""
    yield "REVOKE CREATE ON SCHEMA public FROM PUBLIC"
    yield f"REVOKE TEMPORARY ON DATABASE {_quoted(connection, _database(connection))} FROM PUBLIC"


def _granted(connection: Connection, name: str, login: str) -> Iterator[str]:
    to = _quoted(connection, name)
    for kind in ("TABLES", "SEQUENCES"):
        yield f"REVOKE ALL ON ALL {kind} IN SCHEMA public FROM {to}"
    yield f"GRANT USAGE ON SCHEMA public TO {to}"
    yield f"GRANT SELECT ON {_VERSION} TO {to}"
    for table, given in rights(login).items():
        if given:
            yield f"GRANT {given} ON {table} TO {to}"
        numbered = metadata.tables[table].autoincrement_column
        if "INSERT" in given and numbered is not None:
            yield f"GRANT USAGE ON SEQUENCE {table}_{numbered.name}_seq TO {to}"


def _own_rows(connection: Connection, logins: dict[str, str]) -> Iterator[str]:
    """Let a role write rows of its own name alone: under another's they would be sent, or believed, as theirs."""
    known = {(row.tablename, row.policyname) for row in connection.execute(_POLICIES)}
    for table in (*OWN_ROWS, *OWN_NEW_ROWS):
        if (table, _SHOWN) not in known:
            yield f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY"
            yield f"CREATE POLICY {_SHOWN} ON {table} FOR SELECT USING (true)"
        for name, login in logins.items():
            if (table, name) not in known:
                yield _policy(connection, table, name, login)


def _policy(connection: Connection, table: str, name: str, login: str) -> str:
    quoted = _quoted(connection, name)
    if table in OWN_ROWS:
        own = f"{OWN_ROWS[table]} = '{login}'"
        return f"CREATE POLICY {quoted} ON {table} TO {quoted} USING ({own}) WITH CHECK ({own})"
    return f"CREATE POLICY {quoted} ON {table} FOR INSERT TO {quoted} WITH CHECK ({OWN_NEW_ROWS[table]} = '{login}')"


def _run(connection: Connection, statements: Iterable[str]) -> None:
    for statement in statements:
        connection.exec_driver_sql(statement)


def _quoted(connection: Connection, name: str) -> str:
    return connection.dialect.identifier_preparer.quote_identifier(name)


def _database(connection: Connection) -> str:
    return str(connection.scalar(text("SELECT current_database()")))
