"""Number identical messages within one source, in flat memory however long the source is.

The tally is a private temporary database that goes when it is closed; it holds HMACs under a random key of this run.
"""

import sqlite3
from types import TracebackType
from typing import Self

from twinlock.content.plain import Plain
from twinlock.keys.items import ItemCipher
from twinlock.keys.secret import SecretKey

_COUNT = """
INSERT INTO seen (mac, times) VALUES (?, 1)
ON CONFLICT (mac) DO UPDATE SET times = times + 1
RETURNING times - 1
"""


class Occurrences:
    """Count how often each message came so far. Blocking, and used by one thread at a time."""

    def __init__(self) -> None:
        # An empty name is a temporary database: on disk once it outgrows its cache, and deleted by SQLite itself.
        self._tally = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._tally.execute("CREATE TABLE seen (mac BLOB PRIMARY KEY, times INTEGER NOT NULL) WITHOUT ROWID")
        self._tally.execute("BEGIN")
        key = SecretKey.generate()
        self._marks = ItemCipher(key)
        key.wipe()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._tally.close()
        self._marks.wipe()

    def number(self, plain: Plain) -> int:
        """Return how often a message with the same bytes came before, and count this one."""
        mac = self._marks.mac()
        for chunk in plain.chunks():
            mac.update(chunk)
        ((times,),) = self._tally.execute(_COUNT, (mac.digest(),)).fetchall()
        return int(times)
