"""Every failure as a person sees it: one line, a hint where there is one, and the exit code. Never a traceback."""

import errno
import logging
import traceback
from collections.abc import Callable
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from cli.output import Failure
from cli.settings import SettingsFault
from schemas.event import MessageRefused
from twinlock.content.objects import ObjectGone, ObjectsTrouble
from twinlock.custody.errors import KeyNotYet
from twinlock.errors import TwinlockError
from twinlock.keys.errors import DecryptionError
from twinlock.keys.ports import VaultFailure
from twinlock.store.engine import UnsupportedDatabase
from twinlock.store.postgres import DatabaseUnavailable, of_postgresql
from twinlock.store.unit import StaleRead
from twinlock.vaults.administration import BadKeyUri

log = logging.getLogger(__name__)

FAILED, USAGE, TIMED_OUT = 1, 2, 3


class UsageFault(TwinlockError):
    """Refuse what was typed."""


class TimedOut(TwinlockError):
    """Say that `--timeout` passed before the work was done."""


# The first that fits explains: a class stands before its bases.
_KNOWN: tuple[tuple[type[Exception], Callable[[Any], Failure]], ...] = (
    (SettingsFault, lambda error: Failure(error.detail, error.hint, USAGE)),
    (UnsupportedDatabase, lambda error: Failure(f"database: {error.detail}", error.hint, USAGE)),
    (UsageFault, lambda error: Failure(error.detail, error.hint, USAGE)),
    (TimedOut, lambda error: Failure(error.detail, error.hint, TIMED_OUT)),
    (KeyNotYet, lambda error: Failure(error.detail, error.hint, TIMED_OUT)),
    (BadKeyUri, lambda error: Failure(error.detail, error.hint, USAGE)),
    (TwinlockError, lambda error: Failure(error.detail, error.hint)),
    (VaultFailure, lambda error: Failure(f"{error.uri}: {error.outcome}: {error.detail}")),
    (MessageRefused, lambda error: Failure(f"the event was refused ({error.reason}): {error.detail}", _SCHEMAS)),
    (DecryptionError, lambda error: Failure("something stored does not decrypt", "bring it back from a backup")),
    (ObjectGone, lambda error: Failure("something stored is gone", "bring the objects back from a backup")),
    (SQLAlchemyError, lambda error: _of_database(error)),
    (StaleRead, lambda error: Failure("others changed the same things at the same time", "run it again")),
    (TimeoutError, lambda error: Failure("the time is up", "give it more with --timeout", TIMED_OUT)),
    (OSError, lambda error: _of_system(error)),
)
_LOGGED = (SQLAlchemyError, DecryptionError, ObjectGone, ObjectsTrouble)  # where it arose is worth knowing
_SCHEMAS = "see what a request looks like: twinlock schema export FOLDER"
_DISK = "check the disk and the owner of the home; the log has more"


def explain(error: BaseException, log_file: str) -> Failure:
    """Explain any error; an unexpected one is named by its class, with its place in the log."""
    inner = _innermost(error)
    for kind, explained in _KNOWN:
        if isinstance(inner, kind):
            if isinstance(inner, _LOGGED) and not isinstance(
                inner, DatabaseUnavailable
            ):  # which says all that there is
                record(inner)
            return explained(inner)
    record(inner)
    return Failure(f"unexpected {type(inner).__name__}", f"report it with the end of {log_file}")


def record(error: BaseException) -> None:
    """Log where an error arose; its message stays out, for it may quote what must not be written down."""
    frames = "".join(traceback.format_list(traceback.extract_tb(error.__traceback__)))
    log.error("unexpected %s\n%s", type(error).__name__, frames)


def _innermost(error: BaseException) -> BaseException:
    """Return the cause that matters: a task group wraps what its tasks raised."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _of_database(error: SQLAlchemyError) -> Failure:
    found = of_postgresql(error)
    if found is not None:
        return Failure(found.detail, found.hint)
    return Failure(f"the database can't be used ({type(error).__name__})", _DISK)


def _of_system(error: OSError) -> Failure:
    if error.errno == errno.EPIPE:
        return Failure("nobody reads the output any more")
    place = f"{error.filename}: " if error.filename else ""
    return Failure(f"{place}{(error.strerror or type(error).__name__).lower()}")
