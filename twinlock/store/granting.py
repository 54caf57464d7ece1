"""Give every role of a database what `roles.py` and `row_rules.py` say, and nothing else.

It is done by the database's owner, after each migration.
A repeat changes nothing, and a role that does not exist is left out: who has one user for all needs none.
"""

import hashlib
from collections.abc import Iterable, Iterator

from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from twinlock.store.roles import ROLES, rights, role
from twinlock.store.row_rules import RULES
from twinlock.store.tables import metadata

_THERE = text("SELECT rolname FROM pg_roles WHERE rolname = ANY(:names)")
_POLICIES = text(
    "SELECT tablename, policyname FROM pg_policies WHERE schemaname = 'public' AND tablename = ANY(:names)"
)
_OPEN = text(
    "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname = ANY(:names) "
    "AND NOT relrowsecurity ORDER BY relname"
)
_CLAUSES = {"SELECT": ("USING",), "INSERT": ("WITH CHECK",), "UPDATE": ("USING", "WITH CHECK"), "DELETE": ("USING",)}
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
        _run(connection, _row_rules(connection, {names[name]: name for name in there}))
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


def _row_rules(connection: Connection, roles: dict[str, str]) -> Iterator[str]:
    """Have every shared table show and take the rows that its rules say; what is in place already is left alone."""
    for row in connection.execute(_OPEN, {"names": list(RULES)}):
        yield f"ALTER TABLE {row.relname} ENABLE ROW LEVEL SECURITY"
    known = {(row.tablename, row.policyname) for row in connection.execute(_POLICIES, {"names": list(RULES)})}
    wanted = {(table, name): policy for table in RULES for name, policy in _policies(connection, table, roles)}
    for table, name in sorted(known - wanted.keys()):
        yield f"DROP POLICY {_quoted(connection, name)} ON {table}"
    yield from (policy for key, policy in wanted.items() if key not in known)


def _policies(connection: Connection, table: str, roles: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the policies of a table by name; the name of one tells what it says, so that a new rule takes its place.

    And for whom: in a copy of a database roles have other names.
    """
    for login, to in roles.items():
        for verb, condition in RULES[table](login).conditions():
            digest = hashlib.sha256(f"{to} {condition}".encode()).hexdigest()[:8]
            name = f"{login} {verb.lower()} {digest}"
            clause = " ".join(f"{kind} ({condition})" for kind in _CLAUSES[verb])
            head = f"CREATE POLICY {_quoted(connection, name)} ON {table} FOR {verb}"
            yield name, f"{head} TO {_quoted(connection, to)} {clause}"


def _run(connection: Connection, statements: Iterable[str]) -> None:
    for statement in statements:
        connection.exec_driver_sql(statement)


def _quoted(connection: Connection, name: str) -> str:
    return connection.dialect.identifier_preparer.quote_identifier(name)


def _database(connection: Connection) -> str:
    return str(connection.scalar(text("SELECT current_database()")))
