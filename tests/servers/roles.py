"""A database with a role for every login."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import asyncpg

from cli.roles import DatabasePlace, write_roles
from tests.servers.postgres import Postgres, migrate, run
from twinlock.store.engine import open_engine
from twinlock.store.granting import grant
from twinlock.store.roles import ROLES, role

_GRANTED = """
SELECT string_agg(concat(relname, relacl, relrowsecurity,
  (SELECT string_agg(attname || attacl::text, ' ' ORDER BY attname)
  FROM pg_attribute WHERE attrelid = c.oid AND attacl IS NOT NULL)), E'\n' ORDER BY relname)
FROM pg_class c WHERE relnamespace = 'public'::regnamespace
"""
_POLICIES = """
SELECT string_agg(concat_ws(' ', tablename, policyname, roles, cmd, qual, with_check), E'\n'
  ORDER BY tablename, policyname) FROM pg_policies
"""


class Roles:
    """Hold a database with a role for every login."""

    def __init__(self, cluster: Postgres, folder: Path, database: str) -> None:
        self.folder = folder
        self.owner = cluster.create(database)
        self._cluster = cluster
        self._database = database
        self._make_roles()
        run(migrate(self.owner))
        self.grant()

    @classmethod
    @contextmanager
    def made(cls, cluster: Postgres, folder: Path, database: str) -> Iterator[Self]:
        """Make a database with roles, and leave neither."""
        made, used = cls(cluster, folder, database), [database]
        yield made
        used = [*used, made._database] if made._database != database else used
        cluster.drop(made._database)
        for name in used:
            for login in ROLES:
                cluster.execute(f"DROP ROLE {role(name, login)}")

    def rename(self, database: str) -> None:
        """Give the database another name, and make the roles that belong to that, with no right."""
        self._cluster.execute(f"ALTER DATABASE {self._database} RENAME TO {database}")
        self.owner = self.owner.replace(f"/{self._database}", f"/{database}")
        self._database, self.folder = database, self.folder / database
        self._make_roles()

    def _make_roles(self) -> None:
        write_roles(self.folder, DatabasePlace(f"127.0.0.1:{self._cluster.port}", self._database, tls=False))
        self.load((self.folder / "roles.sql").read_text())

    def load(self, script: str) -> None:
        """Run statements of the owner."""
        self._cluster.load(script, self._database)

    def execute(self, statement: str) -> Any:
        """Run a statement of the owner, and return its first value."""
        return self._cluster.execute(statement, self._database)

    def grant(self) -> list[str]:
        """Do what `twinlock init` does."""

        async def granted() -> list[str]:
            engine = open_engine(self.owner)
            try:
                return await grant(engine)
            finally:
                await engine.dispose()

        return run(granted())

    def of(self, login: str, statement: str, *arguments: Any) -> Any:
        """Run a statement with the password of a login, and return its first value."""

        async def ran() -> Any:
            dsn = (self.folder / login / "database").read_text().replace("+asyncpg", "")
            connection = await asyncpg.connect(dsn, timeout=30)
            try:
                return await connection.fetchval(statement, *arguments)
            finally:
                await connection.close()

        return run(ran())

    def state(self, login: str, statement: str) -> str:
        """Return the SQLSTATE that a statement of a login ends with; nothing where it is done."""
        try:
            self.of(login, statement)
        except asyncpg.PostgresError as refused:
            return str(refused.sqlstate)
        return ""

    def granted(self) -> Any:
        """Return every right in the database, as PostgreSQL keeps them."""
        return [self.execute(each) for each in (_GRANTED, _POLICIES)]
