"""PostgreSQL connections that say what is wrong, in words for people and without the password."""

import re
import ssl
from collections.abc import Callable
from typing import Any

import asyncpg
from sqlalchemy import event
from sqlalchemy.engine import URL, ExceptionContext
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, DisconnectionError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from twinlock.errors import TwinlockError

CONNECT_SECONDS = 10.0
# Longer than any lock is held: whoever waits so long waits for what is dead. The URL's own number wins.
STATEMENT_SECONDS = 60.0
_OPTION = "command_timeout"
_AUTHORITY = "sslrootcert"
# A fleet of a dozen processes stays below the hundred connections that PostgreSQL has by default.
POOL, OVERFLOW = 4, 4
READING = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
GLANCING = {"isolation_level": "AUTOCOMMIT"}
_CONFLICTS = ("40001", "40P01")  # a serialization failure, a deadlock
_STALE_PLAN = "InvalidCachedStatementError"  # somebody migrated; the driver has forgotten the plan by now
_LOST = ("08", "57P")  # classes of a lost connection, and of a server that goes or comes


class DatabaseUnavailable(TwinlockError, SQLAlchemyError):
    """Say that PostgreSQL can't be used now; the message never shows the password."""


class DatabaseNotReached(DatabaseUnavailable):
    """Say that nobody answers, or not yet: it may pass by itself."""


def open_postgresql(url: URL) -> AsyncEngine:
    """Open an engine; nothing is connected yet. TLS and the statement cache go by the URL, as asyncpg takes them.

    Raise a `ValueError` for an option that can't be.
    """

    async def connect(**options: Any) -> Any:
        try:
            return await asyncpg.connect(**options)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TypeError, ValueError) as error:
            raise _explained(error, url) from None

    seconds = _statement_seconds(url)
    server = {
        "application_name": "twinlock",
        # A process that froze, or whose network went, must not keep its locks.
        "idle_in_transaction_session_timeout": f"{seconds * 1000:.0f}ms",
    }
    engine = create_async_engine(
        url.difference_update_query([_AUTHORITY]),
        connect_args={
            **_trust(url),
            "async_creator_fn": connect,
            "timeout": CONNECT_SECONDS,
            "command_timeout": seconds,
            "server_settings": server,
        },
        isolation_level="READ COMMITTED",
        pool_size=POOL,
        max_overflow=OVERFLOW,
        pool_timeout=seconds,
        hide_parameters=True,
    )
    event.listen(engine.sync_engine, "checkout", _refuse_closed)
    event.listen(engine.sync_engine, "handle_error", _namer(seconds))
    return engine


def _refuse_closed(connection: DBAPIConnection, _record: ConnectionPoolEntry, _proxy: PoolProxiedConnection) -> None:
    # The driver learns of a closed connection by itself: asking the server first would be three trips a transaction.
    driver: Any = connection
    if driver.driver_connection.is_closed():
        raise DisconnectionError


def _trust(url: URL) -> dict[str, ssl.SSLContext]:
    """Return what makes the driver believe one authority alone, the one whose file the URL names."""
    if _AUTHORITY not in url.query:
        return {}
    if url.query.get("ssl") != "verify-full":
        raise ValueError(f"{_AUTHORITY} needs ?ssl=verify-full: nothing else checks who answers")
    try:
        return {"ssl": ssl.create_default_context(cafile=str(url.query[_AUTHORITY]))}
    except OSError:  # an SSLError is one
        raise ValueError(f"{_AUTHORITY} is no file with a certificate") from None


def _statement_seconds(url: URL) -> float:
    given = str(url.query.get(_OPTION, STATEMENT_SECONDS))
    if not re.fullmatch(r"[1-9][0-9]{0,2}(\.[0-9]+)?", given):
        raise ValueError(f"{_OPTION} has to be 1 to 999 seconds")
    return float(given)


def _namer(seconds: float) -> Callable[[ExceptionContext], None]:
    def name_timeout(context: ExceptionContext) -> None:
        # A bare TimeoutError would pass for the caller's own.
        if isinstance(context.original_exception, TimeoutError):
            # The way to the server may be lost without a word, and then it is for the rest of the pool as well.
            context.invalidate_pool_on_disconnect = True
            raise DatabaseUnavailable(f"PostgreSQL took over {seconds:.0f} s for a statement", hint=_BUSY)

    return name_timeout


def lost_a_conflict(error: DBAPIError) -> bool:
    """Tell whether a statement failed only because of what others did at the same time: starting over helps."""
    return getattr(error.orig, "sqlstate", None) in _CONFLICTS or type(error.orig).__name__ == _STALE_PLAN


def of_postgresql(error: SQLAlchemyError) -> DatabaseUnavailable | None:
    """Explain an error of a statement, or return none for what did not come from PostgreSQL."""
    if not isinstance(error, DBAPIError) or not hasattr(error.orig, "sqlstate"):
        return None
    state: str | None = getattr(error.orig, "sqlstate", None)
    if state is None or error.connection_invalidated or state.startswith(_LOST):
        return DatabaseNotReached("the connection to the database was lost", hint="run it again when PostgreSQL is up")
    if state == "42501":
        return DatabaseUnavailable("the database's user may not do that", hint=_RIGHTS)
    return DatabaseUnavailable(f"the database refused a statement (SQLSTATE {state})", hint="the log has more")


def _explained(error: Exception, url: URL) -> DatabaseUnavailable:
    kind = type(error).__name__
    detail, hint = next((said for known, said in _KNOWN if isinstance(error, known)), _UNKNOWN)
    place = f"{url.host or 'localhost'}:{url.port or 5432}"
    shown = {"place": f"PostgreSQL at {place}", "database": url.database, "kind": kind}
    passes = isinstance(error, _PASSING) and not isinstance(error, ssl.SSLError)
    refused = DatabaseNotReached if passes else DatabaseUnavailable
    return refused(detail.format(**shown), hint=hint.format(**shown))


_BUSY = "see to its load; whatever the statement changed is undone"
_CHECK = "check the user and the password in the setting database"
_OPTIONS = "TLS is ?ssl=verify-full at the end of the setting database; &sslrootcert=FILE names who signed"
_RIGHTS = "set TWINLOCK_DATABASE to the owner's URL; what workers may do, `twinlock init` grants to their roles"
_WAY = "see its pg_hba.conf: it may want TLS, which is ?ssl=verify-full at the end of the setting database"
_UP = "see that it runs, and check host and port in the setting database"
_UNKNOWN = ("{place} refuses the connection ({kind})", _CHECK)
_PASSING = (asyncpg.TooManyConnectionsError, asyncpg.CannotConnectNowError, OSError)  # a TimeoutError is an OSError
# The first that fits explains: a class stands before its bases.
_KNOWN: tuple[tuple[Any, tuple[str, str]], ...] = (
    (asyncpg.InvalidPasswordError, ("{place} refuses the user or the password", _CHECK)),
    (asyncpg.InvalidAuthorizationSpecificationError, ("{place} lets this user not in this way", _WAY)),
    (asyncpg.InvalidCatalogNameError, ("{place} has no database {database}", "make it: CREATE DATABASE {database}")),
    (asyncpg.TooManyConnectionsError, ("{place} has no connection left", "raise its max_connections")),
    (asyncpg.CannotConnectNowError, ("{place} is starting or stopping", "try again in a moment")),
    (asyncpg.PostgresError, _UNKNOWN),
    (ssl.SSLError, ("{place} is not trusted: TLS failed", _OPTIONS)),
    (TimeoutError, ("{place} does not answer in time", _UP)),
    (ConnectionRefusedError, ("nothing answers for {place}", _UP)),
    (OSError, ("{place} can't be reached, or has no TLS ({kind})", _UP)),
    (
        (TypeError, ValueError, asyncpg.InterfaceError),
        ("the database's URL has an option that can't be used", _OPTIONS),
    ),
)
