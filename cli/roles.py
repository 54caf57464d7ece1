"""Make the roles of a fleet in PostgreSQL: a secret URL for every login, and the SQL that makes the roles.

The SQL holds verifiers, from which no password is to be had. What a role may do is granted by `twinlock init`.
"""

import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from cli.failures import UsageFault
from cli.logins import HOST, PASSWORD_BYTES, open_to_all, write_file
from twinlock.errors import TwinlockError
from twinlock.store.roles import ROLES, role
from twinlock.store.scram import verifier

SQL = "roles.sql"
DATABASE = "database"  # the secret file of the setting of this name
_NAME = re.compile("[a-z_][a-z0-9_]{0,39}")  # a role's name is the database's and the login's, in 63 bytes
_HEAD = "-- Run by whoever may make roles, as often as you like: a role that is there gets its password anew.\n"
_ROLE = """\
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{name}') THEN
    CREATE ROLE "{name}";
  END IF;
END $$;
ALTER ROLE "{name}" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD '{verifier}';
"""


@dataclass(frozen=True, slots=True)
class DatabasePlace:
    """Name a database: HOST or HOST:PORT, its name, and whether it is reached by TLS alone."""

    host: str
    name: str
    tls: bool

    def url(self, login: str, password: str) -> URL:
        """Return the URL of a login; raise `UsageFault` where host, port or name can't be."""
        found = HOST.fullmatch(self.host)
        if found is None or int((found[2] or ":1")[1:]) > 65535:
            raise UsageFault(f"{self.host!a} is not HOST or HOST:PORT", hint="for example --host db.example:5432")
        if _NAME.fullmatch(self.name) is None:
            raise UsageFault(f"{self.name!a} is no name for a database", hint="use up to 40 of a to z, 0 to 9 and _")
        ends = "?ssl=verify-full" if self.tls else ""
        user = role(self.name, login)
        return make_url(f"postgresql+asyncpg://{user}:{password}@{self.host}/{self.name}{ends}")


def write_roles(folder: Path, place: DatabasePlace) -> list[str]:
    """Write a secret file for every login that has none, and SQL that fits all; return the new logins."""
    urls = {login: place.url(login, secrets.token_urlsafe(PASSWORD_BYTES)) for login in ROLES}
    open_to_all(folder)
    made = [login for login in urls if not (folder / login / DATABASE).exists()]
    for login in made:
        (folder / login).mkdir(mode=0o700, exist_ok=True)
        write_file(folder / login / DATABASE, urls[login].render_as_string(hide_password=False), 0o600)
    parts = [_role(url, folder / login / DATABASE) for login, url in urls.items()]
    wanted = "\n".join([_HEAD, *parts])
    if not (folder / SQL).exists() or (folder / SQL).read_text(encoding="utf-8") != wanted:
        write_file(folder / SQL, wanted, 0o644)  # the server's own user reads it
    return made


def _role(wanted: URL, path: Path) -> str:
    name = str(wanted.username)
    return _ROLE.format(name=name, verifier=verifier(name, _password(path, wanted)))


def _password(path: Path, wanted: URL) -> str:
    try:
        found = make_url(path.read_text(encoding="utf-8").strip())
    except (ArgumentError, ValueError):  # of which bytes that are no text are one
        found = None
    if found is None or not found.password or not found.password.isascii():
        raise TwinlockError(f"{path} holds no password", hint="remove the file, then run the command again")
    if _place(found) != _place(wanted):
        raise TwinlockError(
            f"{path} is for another database than {wanted._replace(username=None, password=None)}",
            hint="name the same one, or remove every file `database` of the folder and make them anew",
        )
    return found.password


def _place(url: URL) -> tuple[object, ...]:
    # Other options are whoever's who added them, such as the authority of the server's certificate.
    return url.username, url.host, url.port, url.database, url.query.get("ssl")
