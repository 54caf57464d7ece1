"""The matrix of PostgreSQL's roles is about tables that exist, and their secrets stay as they are."""

import re
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from cli.failures import UsageFault
from cli.logins import Place, write_logins
from cli.roles import DatabasePlace, write_roles
from cli.settings import load_settings
from events.amqp.access import of_operator, of_worker
from twinlock.errors import TwinlockError
from twinlock.store.roles import ROLES, SEALED
from twinlock.store.row_rules import RULES
from twinlock.store.scram import verifier
from twinlock.store.tables import metadata
from workers.roster import ROSTER

PLACE = DatabasePlace("db.example:5433", "shop", tls=True)
_RIGHTS = re.compile(r"((SELECT|INSERT|UPDATE|DELETE)( \([a-z_, ]+\))?(, |$))+")


def test_logins() -> None:
    """There is a role for every login that the broker has, but for the administrator, who has no use for one."""
    assert {of_operator().login, *(of_worker(name).login for name in ROSTER)} == set(ROLES)


@pytest.mark.parametrize("login", ROLES)
def test_tables(login: str) -> None:
    """Every right is one that PostgreSQL knows, to a table and to columns that exist."""
    for table, given in ROLES[login].items():
        assert _RIGHTS.fullmatch(given), (table, given)
        named = {column for columns in re.findall(r"\(([^)]*)\)", given) for column in columns.split(", ")}
        assert named <= set(metadata.tables[table].c.keys()), table


def test_everywhere() -> None:
    """No role may change the audit log; and every table has somebody who writes."""
    assert {"INSERT"} == {given["audit_entries"] for given in ROLES.values() if "audit_entries" in given}
    assert set(SEALED) <= set(metadata.tables)

    written = {table for given in ROLES.values() for table, may in given.items() if re.search("INSERT|UPDATE", may)}

    owners = set(metadata.tables) - written
    assert {"installation", "enrolled_workers", "shape", "audit_cuts"} == owners


@pytest.mark.parametrize("login", ROLES)
def test_row_rules(login: str) -> None:
    """Whoever may do something to a shared table has rows to do it to, and who has rows for it may do it."""
    for table, rules in RULES.items():
        verbs = {verb for verb, _ in rules(login).conditions()} - {"SELECT"}
        may = set(re.findall(r"INSERT|UPDATE|DELETE", ROLES[login].get(table, "")))

        assert may == verbs or not may, table  # a rule without the right is none


def test_twice(tmp_path: Path) -> None:
    """The first run makes everything, the second changes no byte; the settings find what it made."""
    first = write_roles(tmp_path / "etc", PLACE)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    second = write_roles(tmp_path / "etc", PLACE)

    assert (set(ROLES), []) == (set(first), second)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is given the folder of a login connects as its role, by TLS."""
    write_roles(tmp_path / "etc", PLACE)
    monkeypatch.setenv("TWINLOCK_SECRETS", str(tmp_path / "etc" / "operator"))
    found = make_url(load_settings(tmp_path).database_url)

    assert ("shop_operator", "db.example", 5433, "shop") == (found.username, found.host, found.port, found.database)
    assert {"ssl": "verify-full"} == found.query


def test_one_process_of_many(tmp_path: Path) -> None:
    """Workers that share a process have each its own role, as each has its own login."""
    write_roles(tmp_path / "secrets", PLACE)
    write_logins(tmp_path / "secrets", tuple(ROSTER), Place("amqp", "mq.example", "/"))
    shared = load_settings(tmp_path)

    assert {name: f"shop_{name}" for name in ROSTER} == {
        name: make_url(shared.of_worker(name).database_url).username for name in ROSTER
    }


def test_added_options(tmp_path: Path) -> None:
    """What somebody added to a URL, such as the file of an authority, stays."""
    write_roles(tmp_path, PLACE)
    path = tmp_path / "operator" / "database"
    path.write_text(f"{path.read_text()}&sslrootcert=/etc/ca.pem\n")

    assert [] == write_roles(tmp_path, PLACE)
    assert path.read_text().endswith("&sslrootcert=/etc/ca.pem\n")


def test_no_password_in_the_sql(tmp_path: Path) -> None:
    """The SQL has what the server compares with, and no password; only the secrets themselves are closed."""
    write_roles(tmp_path / "etc", PLACE)
    sql = (tmp_path / "etc" / "roles.sql").read_text()
    for login in ROLES:
        path = tmp_path / "etc" / login / "database"
        password = str(make_url(path.read_text()).password)

        assert password not in sql
        assert verifier(f"shop_{login}", password) in sql
        assert 0o600 == path.stat().st_mode & 0o777
    assert 0o644 == (tmp_path / "etc" / "roles.sql").stat().st_mode & 0o777


def test_interrupted(tmp_path: Path) -> None:
    """A secret or the SQL that is missing is made by the next run, and nothing else changes."""
    write_roles(tmp_path, PLACE)
    whole = (tmp_path / "roles.sql").read_text()
    (tmp_path / "roles.sql").unlink()

    assert [] == write_roles(tmp_path, PLACE)
    assert whole == (tmp_path / "roles.sql").read_text()

    (tmp_path / "operator" / "database").unlink()

    assert ["operator"] == write_roles(tmp_path, PLACE)
    changed = set(whole.splitlines()) ^ set((tmp_path / "roles.sql").read_text().splitlines())
    assert {True} == {"shop_operator" in line for line in changed}


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("db example", "shop"),
        ("", "shop"),
        ("db:0", "shop"),
        ("db:99999", "shop"),
        ("db", "Shop"),
        ("db", "a'b"),
        ("db", "x" * 41),
    ],
)
def test_bad_place(tmp_path: Path, host: str, name: str) -> None:
    """What is no host or no name is refused before anything is made."""
    with pytest.raises(UsageFault, match=r"is not HOST or HOST:PORT|is no name for a database"):
        write_roles(tmp_path / "etc", DatabasePlace(host, name, tls=False))

    assert not (tmp_path / "etc").exists()


@pytest.mark.parametrize(
    "text", ["", "postgresql+asyncpg://shop_operator@db.example:5433/shop", "postgresql://u:p@h:xx/db"]
)
def test_no_password(tmp_path: Path, text: str) -> None:
    """A secret without a password is somebody's to look at."""
    write_roles(tmp_path, PLACE)
    (tmp_path / "operator" / "database").write_text(text)
    with pytest.raises(TwinlockError, match="holds no password"):
        write_roles(tmp_path, PLACE)


def test_other_database(tmp_path: Path) -> None:
    """Secrets for another database are told, not left to fail there."""
    write_roles(tmp_path, PLACE)
    with pytest.raises(TwinlockError, match="is for another database than postgresql"):
        write_roles(tmp_path, DatabasePlace("db.example:5433", "shop", tls=False))
