"""Who may ask the custodian for what, cell by cell."""

from itertools import product
from pathlib import Path

import pytest

from twinlock.custody.callers.purposes import (
    CALLERS,
    Needs,
    Operation,
    acts_for_people,
    permit,
    reads_as_service,
    table,
)
from twinlock.custody.port import USER, Initiator, service

PAGE = Path(__file__).parents[2] / "docs" / "custodian.md"
PURPOSES = [
    "create-policy",
    "refresh",
    "assign",
    "roll",
    "move",
    "reencrypt",
    "add-mailbox",
    "add-site",
    "probe",
    "index",
    "",
]
INITIATORS = [USER, *(service(purpose) for purpose in PURPOSES)]
STRANGERS = ["tik_cache_refresher", "recovery_handler", "alert_emitter", "", "Operator"]

# Every cell that is allowed, written out by hand: caller, initiator, operation and what it has to name.
ALLOWED = {
    ("dep_assigner", "service:create-policy", "probe"): "request twinlock.policy.requested.v1",
    ("dep_assigner", "service:create-policy", "make-policy-key"): "request twinlock.policy.requested.v1",
    ("dep_assigner", "service:refresh", "rewrap-policy-key"): "request twinlock.refresh.requested.v1",
    ("dep_assigner", "service:refresh", "make-policy-key"): "request twinlock.refresh.requested.v1",
    ("dep_assigner", "service:assign", "rewrap-containers"): "job assign",
    ("dep_assigner", "service:assign", "make-container-keys"): "job assign",
    ("dep_assigner", "service:roll", "rewrap-containers"): "job roll",
    ("dep_assigner", "service:roll", "make-container-keys"): "job roll",
    ("mailbox_reencryptor", "service:move", "make-container-keys"): "request twinlock.move.requested.v1",
    ("mailbox_reencryptor", "service:reencrypt", "open-container-key"): "job reencrypt",
    ("mailbox_reencryptor", "service:reencrypt", "make-container-keys"): "job reencrypt",
    ("site_reencryptor", "service:move", "make-container-keys"): "request twinlock.site-move.requested.v1",
    ("site_reencryptor", "service:reencrypt", "open-container-key"): "job reencrypt",
    ("site_reencryptor", "service:assign", "rewrap-containers"): "job assign",
    ("site_reencryptor", "service:assign", "make-container-keys"): "job assign",
    ("site_reencryptor", "service:roll", "rewrap-containers"): "job roll",
    ("site_reencryptor", "service:roll", "make-container-keys"): "job roll",
    ("operator", "user", "open-container-key"): "nothing",
    ("operator", "service:add-mailbox", "make-container-keys"): "nothing",
    ("operator", "service:add-site", "make-container-keys"): "nothing",
    ("operator", "service:probe", "probe"): "nothing",
    **{("operator", f"service:{purpose}", "open-container-key"): "nothing" for purpose in PURPOSES},
}


@pytest.mark.parametrize(("caller", "initiator"), list(product([*CALLERS, *STRANGERS], INITIATORS)))
def test_law_10_cell_by_cell(caller: str, initiator: Initiator) -> None:
    """Law 10: exactly what the table allows is allowed, each cell naming exactly what it has to."""
    for operation in Operation:
        found = permit(caller, initiator, operation)
        said = None if found is None else f"{found.needs} {found.of}".strip()

        assert ALLOWED.get((caller, str(initiator), operation.value)) == said


def test_law_10_background_workers_are_no_people() -> None:
    """Law 10: only the operator acts for people, and no worker opens a key without naming a job."""
    workers = [caller for caller in CALLERS if caller != "operator"]
    opening = [permit(*cell, Operation.OPEN_CONTAINER_KEY) for cell in product(workers, INITIATORS)]

    assert [True, *[False for _ in workers]] == [acts_for_people(caller) for caller in ("operator", *workers)]
    assert {Needs.JOB} == {found.needs for found in opening if found is not None}


def test_reading_as_the_service() -> None:
    """An operator's read as the service stands out from a person's read and from a worker's step."""
    read = Operation.OPEN_CONTAINER_KEY

    assert reads_as_service("operator", service("index"), read)
    assert not reads_as_service("operator", USER, read)
    assert not reads_as_service("mailbox_reencryptor", service("reencrypt"), read)
    assert not reads_as_service("operator", service("probe"), Operation.PROBE)


def test_table_is_whole() -> None:
    """The table for people has every cell that is allowed."""
    shown = {(row.caller, row.initiator, operation) for row in table() for operation in row.operations}
    asked = {(caller, _shown(caller, initiator, operation), operation) for caller, initiator, operation in ALLOWED}

    assert asked == shown


def _shown(caller: str, initiator: str, operation: str) -> str:
    reads = caller == "operator" and initiator != "user" and operation == "open-container-key"
    return "service:…" if reads else initiator


def test_page_shows_the_table() -> None:
    """docs/custodian.md shows the table as it runs, and no other row."""
    lines = PAGE.read_text().splitlines()
    rows = [
        f"| `{row.caller}` | `{row.initiator}` | {', '.join(f'`{each}`' for each in row.operations)} | {row.names} |"
        for row in table()
    ]

    assert rows == [line for line in lines if line.startswith("| `")]
