"""Logs: warnings and worse go to a file in the home, and to standard error with `--verbose` or in a worker run.

A command's standard error stays free for its own one line. The bus adds which delivery a line is about. A worker's
lines can be JSON, for whoever collects them.
"""

import json
import logging
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from cli.home import LOG
from events.context import FIELDS, DeliveryFields

MOST_BYTES = 5 * 1024 * 1024
_FORMAT = "%(asctime)s %(levelname)s %(name)s%(delivery)s: %(message)s"
_LIBRARIES = ("aiobotocore", "aiosqlite", "alembic", "asyncio", "azure", "botocore", "sqlalchemy")
# Lost connections, failed logins and traces that nobody takes are told in our words, once.
_TOLD_HERE = ("aiormq.connection", "azure.identity", "opentelemetry")


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        consumer, event = getattr(record, "consumer", None), getattr(record, "event_id", None)
        record.delivery = f" [{consumer} {event}]" if consumer else ""
        return super().format(record)


class _JsonFormatter(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        said = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **{name: value for name in FIELDS if (value := getattr(record, name, None)) is not None},
        }
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return json.dumps(said, ensure_ascii=False)


class _NoMessages(logging.Filter):
    """Leave out lines that show a whole message, body included; whoever sent it was told that it came back."""

    def filter(self, record: logging.LogRecord) -> bool:
        given = record.args if isinstance(record.args, tuple) else ()
        return not any(type(each).__name__ == "DeliveredMessage" for each in given)


_NO_MESSAGES = _NoMessages()


class _HomeFile(logging.FileHandler):
    """Write to a file of the home, as soon as there is a home; a log that can't be written fails no command."""

    def emit(self, record: logging.LogRecord) -> None:
        if Path(self.baseFilename).parent.is_dir():
            with suppress(OSError):  # opening it is not yet in the library's own care
                super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # the library's name
        """Stay silent: the library would print a traceback."""


def configure(home: Path, to_terminal: bool, *, as_json: bool = False) -> None:
    """Send logs where they belong; a later call replaces the earlier."""
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler.formatter, _Formatter)]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(logging.INFO)
    for name in _LIBRARIES:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in _TOLD_HERE:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logging.getLogger("aiormq.channel").addFilter(_NO_MESSAGES)
    _add(root, _file(home / LOG), logging.WARNING, _Formatter(_FORMAT))
    if to_terminal:
        shown = _JsonFormatter() if as_json else _Formatter(_FORMAT)
        _add(root, logging.StreamHandler(sys.stderr), logging.INFO, shown)


def _file(path: Path) -> logging.Handler:
    with suppress(OSError):
        if path.stat().st_size > MOST_BYTES:
            path.replace(path.with_suffix(".log.1"))
    return _HomeFile(path, encoding="utf-8", delay=True)


def _add(root: logging.Logger, handler: logging.Handler, level: int, formatter: logging.Formatter) -> None:
    handler.setLevel(level)
    handler.setFormatter(formatter)
    handler.addFilter(DeliveryFields())
    root.addHandler(handler)
