"""PostgreSQL's roles: each may do what its matrix says, and is refused everything else."""

import asyncio
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.servers.postgres import Postgres, run
from tests.servers.roles import Roles
from twinlock.store.engine import open_engine
from twinlock.store.granting import grant
from twinlock.store.roles import ROLES, rights, role
from twinlock.store.tables import metadata

DATABASE = "of_roles"
DENIED = "42501"
TABLES = [*metadata.tables, "alembic_version"]
_RIGHT = re.compile(r"(SELECT|INSERT|UPDATE|DELETE)(?: \(([^)]*)\))?")
# Planning asks for the right and does nothing; as whoever calls, and thousands in one trip.
_REFUSED = """
CREATE FUNCTION refused(statements text[]) RETURNS boolean[] LANGUAGE plpgsql AS $$
DECLARE answers boolean[]; each text;
BEGIN
  FOREACH each IN ARRAY statements LOOP
    BEGIN
      EXECUTE 'EXPLAIN ' || each;
      answers := answers || false;
    EXCEPTION WHEN insufficient_privilege THEN
      answers := answers || true;
    END;
  END LOOP;
  RETURN answers;
END $$
"""
_ENTRY = "INSERT INTO audit_entries VALUES ('{writer}', 1, now(), 'kind', NULL, NULL, '{{}}', '\\x00')"
_EVENT = """
INSERT INTO outbox (source, id, publisher, type, correlation, body, created_at, attempts)
VALUES ('s', '{who}', '{who}', 't', 'c', '', now(), 0)
"""

Asked = tuple[str, str, str]  # a table, a verb, and a column where the verb takes some


@pytest.fixture(scope="module")
def roles(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Roles]:
    """Make a database with roles."""
    with Roles.made(postgres, tmp_path_factory.mktemp("roles"), DATABASE) as made:
        made.load(_REFUSED)
        yield made


def _columns(table: str) -> Sequence[str]:
    return list(metadata.tables[table].c.keys()) if table in metadata.tables else ["version_num"]


def _everything() -> dict[Asked, str]:
    found = {}
    for table in TABLES:
        found[table, "INSERT", ""] = f"INSERT INTO {table} DEFAULT VALUES"
        found[table, "DELETE", ""] = f"DELETE FROM {table}"  # noqa: S608  # ours, as are the next two
        for column in _columns(table):
            found[table, "SELECT", column] = f'SELECT "{column}" FROM {table}'  # noqa: S608
            found[table, "UPDATE", column] = f'UPDATE {table} SET "{column}" = DEFAULT'  # noqa: S608
    return found


def _allowed(login: str) -> set[Asked]:
    found = {("alembic_version", "SELECT", "version_num")}
    for table, given in rights(login).items():
        for verb, named in _RIGHT.findall(given):
            columns = named.split(", ") if named else _columns(table)
            found |= {(table, verb, column) for column in (columns if verb in ("SELECT", "UPDATE") else [""])}
    return found


@pytest.mark.parametrize("login", ROLES)
def test_matrix(roles: Roles, login: str) -> None:
    """A role may do what the matrix says, table by table and column by column, and is refused everything else."""
    asked = _everything()
    refused = roles.of(login, "SELECT refused($1)", list(asked.values()))

    assert _allowed(login) == {each for each, no in zip(asked, refused, strict=True) if not no}


@pytest.mark.parametrize("login", ROLES)
def test_audit_log(roles: Roles, login: str) -> None:
    """Law 15: nobody but the owner changes, deletes or empties the audit log; who may add, adds in its own name."""
    for statement in ("UPDATE audit_entries SET kind = ''", "DELETE FROM audit_entries", "TRUNCATE audit_entries"):
        assert DENIED == roles.state(login, statement), statement

    assert DENIED == roles.state(login, _ENTRY.format(writer="another"))

    state = roles.state(login, _ENTRY.format(writer=login))

    assert ("" if "audit_entries" in ROLES[login] else DENIED) == state


@pytest.mark.parametrize("login", ROLES)
def test_no_shape(roles: Roles, login: str) -> None:
    """A role makes, changes, empties and removes no table, and makes no role, and becomes none."""
    for statement in (
        "CREATE TABLE mine (id int)",
        "CREATE TEMPORARY TABLE mine (id int)",
        "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "ALTER TABLE alerts ADD COLUMN mine int",
        "ALTER TABLE outbox DISABLE ROW LEVEL SECURITY",
        "DROP TABLE alerts",
        "TRUNCATE outbox",
        "CREATE ROLE mine",
        f"SET ROLE {role(DATABASE, 'operator' if login != 'operator' else 'dep_assigner')}",
    ):
        assert DENIED == roles.state(login, statement), statement


def test_own_outbox(roles: Roles) -> None:
    """Law 13: nobody puts an event into the outbox in another's name, or takes one out: its relay would send it."""
    mine, other = _EVENT.format(who="dep_assigner"), _EVENT.format(who="recovery_handler")

    assert DENIED == roles.state("dep_assigner", other)
    assert "" == roles.state("dep_assigner", mine)
    assert "" == roles.state("recovery_handler", other)
    assert "" == roles.state("dep_assigner", "UPDATE outbox SET attempts = 9")
    assert "" == roles.state("dep_assigner", "DELETE FROM outbox WHERE publisher <> 'dep_assigner'")
    assert [("dep_assigner", 9), ("recovery_handler", 0)] == [
        (name, roles.of("audit_sealer", "SELECT attempts FROM outbox WHERE publisher = $1", name))
        for name in ("dep_assigner", "recovery_handler")
    ]


def test_again(roles: Roles) -> None:
    """A repeat changes nothing, and what somebody gave to a role beside the matrix is taken back."""
    before = roles.granted()
    roles.grant()

    assert before == roles.granted()

    name = role(DATABASE, "alert_emitter")
    roles.execute(f"GRANT DELETE ON audit_entries TO {name}")
    roles.execute(f"GRANT UPDATE (state) ON policies TO {name}")
    roles.execute(f"CREATE POLICY mine ON jobs TO {name} USING (true)")
    roles.execute("ALTER TABLE requests DISABLE ROW LEVEL SECURITY")

    assert not [each for each in before if each in roles.granted()]
    assert sorted(role(DATABASE, login) for login in ROLES) == roles.grant()
    assert before == roles.granted()


def test_renamed(postgres: Postgres, tmp_path: Path) -> None:
    """A database that was renamed, or restored under another name, has its roles' rules for the roles of that name."""
    with Roles.made(postgres, tmp_path, "before") as roles:
        roles.rename("renamed")
        roles.grant()

        assert "" == roles.state("dep_assigner", _EVENT.format(who="dep_assigner"))
        assert 1 == roles.of("dep_assigner", "SELECT count(*) FROM outbox")
        assert "before_" not in roles.granted()[-1]


def test_wrong_password(roles: Roles) -> None:
    """The verifier that the server was given takes the password that the file has, and no other."""
    path = roles.folder / "operator" / "database"
    right = path.read_text()
    try:
        path.write_text(re.sub(r":[^:@]+@", ":other@", right))
        with pytest.raises(asyncpg.InvalidPasswordError):
            roles.of("operator", "SELECT 1")
    finally:
        path.write_text(right)

    assert 1 == roles.of("operator", "SELECT 1")


async def test_without_roles(postgres_url: str) -> None:
    """Where one user does everything there is nobody to grant anything to, and no row is hidden from it."""
    engine = open_engine(postgres_url)
    try:
        assert [] == await grant(engine)
    finally:
        await engine.dispose()

    found = await asyncio.to_thread(_hidden, postgres_url)

    assert 0 == found


def _hidden(url: str) -> Any:
    async def counted() -> Any:
        connection = await asyncpg.connect(url.replace("+asyncpg", ""))
        try:
            return await connection.fetchval("SELECT count(*) FROM pg_class WHERE relrowsecurity")
        finally:
            await connection.close()

    return run(counted())
