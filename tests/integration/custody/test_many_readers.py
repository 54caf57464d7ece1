"""Thousands who read sites of one geo first, in the same moment: what vaults and database notice of them."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy import event, func, select

from schemas.identifiers import Workload
from twinlock.custody.port import ContainerRef
from twinlock.keys.secret import SecretKey
from twinlock.store.tables.custody import audit_entries

if TYPE_CHECKING:
    from tests.integration.custody.conftest import Custody

SITES, READERS = 100, 10_000


@contextmanager
def statements(custody: "Custody") -> Iterator[list[str]]:
    """Note every statement that the database is sent; one for many rows is one."""
    found: list[str] = []

    def _note(_c: object, _cursor: object, statement: str, *_rest: object) -> None:
        found.append(statement)

    engine = custody.store.engine.sync_engine
    event.listen(engine, "before_cursor_execute", _note)
    try:
        yield found
    finally:
        event.remove(engine, "before_cursor_execute", _note)


async def _open_all(custody: "Custody", refs: list[ContainerRef]) -> list[SecretKey]:
    async with asyncio.TaskGroup() as group:
        opening = [
            group.create_task(custody.custodian.open_container_key(refs[number % SITES], custody.asker()))
            for number in range(READERS)
        ]
    return [each.result().key for each in opening]


async def test_first_readers(custody: "Custody") -> None:
    """10,000 first reads on 100 sites make one unwrap, and at most a hedge; each has its entry in the audit log first.

    Reads and audit entries share transactions, so that the database is asked far less often than the custodian.
    """
    refs = await custody.sites(await custody.policy("p", workload=Workload.SITE), SITES)
    for uri in custody.roots("p"):
        custody.vault.slow(uri, 1.0)
    asked, entries = custody.asked("p"), len(await custody.audit())
    with statements(custody) as sent:
        found = await custody.moving(_open_all(custody, refs))
    async with custody.store.read() as reader:
        count = await reader.scalar(select(func.count()).select_from(audit_entries))

    assert 1 <= custody.asked("p") - asked <= 2
    assert SITES == len({key.commitment() for key in found})
    assert READERS == count - entries
    assert len(sent) < READERS / 10
