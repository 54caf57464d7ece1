"""Count what vaults are asked: in memory where the calls go out, in a table from time to time and at the end.

A call never waits for its count, so a process that is killed takes with it what it has not written yet. A count is of
what went out, whether or not an answer came: that is what vendors charge for.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from twinlock.keys.ports import Clock
from twinlock.store.once import insert_adding
from twinlock.store.tables.custody import vault_operations
from twinlock.store.unit import Cause, Store, new_id


class Operation(StrEnum):
    """What a vault is asked to do."""

    UNWRAP = "unwrap"
    WRAP = "wrap"
    DESCRIBE = "describe"
    CREATE = "create"
    DESTROY = "destroy"


@dataclass(frozen=True, slots=True)
class Account:
    """Say for whom a vault is called; a key that is only tried belongs to nobody yet."""

    tenant_id: str = ""
    policy_id: str = ""


_Line = tuple[date, str, str, str, str]


class Tally:
    """Count the calls of one process, by the day in UTC."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._counts = Counter[_Line]()

    def note(self, vault: str, account: Account, operation: Operation) -> None:
        """Count a call that goes out now."""
        self._counts[(self._clock.now().date(), account.tenant_id, account.policy_id, vault, operation.value)] += 1

    async def flush(self, store: Store) -> None:
        """Add what was counted since the last time to the table; what can't be written stays counted."""
        counts, self._counts = self._counts, Counter()
        if not counts:
            return
        try:
            async with store.begin(Cause(new_id())) as unit:
                # In one order everywhere, so that no two processes wait for each other.
                rows = [dict(zip(_COLUMNS, line, strict=True)) | {"count": counts[line]} for line in sorted(counts)]
                await unit.execute(insert_adding(unit, vault_operations, "count"), rows)
        except BaseException:
            self._counts.update(counts)
            raise


_COLUMNS = ("day", "tenant_id", "policy_id", "vault", "operation")
