"""Tables that workers share: each sees and writes its own rows, and of another's those that it orders."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import TypeVar

import pytest

from schemas.names import (
    ALERT_EMITTER,
    AUDIT_SEALER,
    COLLECTOR,
    DEP_ASSIGNER,
    MAILBOX_REENCRYPTOR,
    OPERATOR,
    RECOVERY_HANDLER,
    SITE_REENCRYPTOR,
    TIK_CACHE_REFRESHER,
)
from tests.servers.postgres import Postgres
from tests.servers.roles import Roles
from twinlock.store.roles import ROLES

WITH_JOBS = (DEP_ASSIGNER, MAILBOX_REENCRYPTOR, RECOVERY_HANDLER, SITE_REENCRYPTOR)
KINDS = ("assign", "roll", "reencrypt", "recover", "purge")
DENIED = -1
# What each puts, by worker and kind; whose job it is may also delete it.
PUTS = {
    DEP_ASSIGNER: {
        (DEP_ASSIGNER, "assign"),
        (DEP_ASSIGNER, "roll"),
        (MAILBOX_REENCRYPTOR, "reencrypt"),
        (SITE_REENCRYPTOR, "assign"),
        (SITE_REENCRYPTOR, "roll"),
    },
    MAILBOX_REENCRYPTOR: {(MAILBOX_REENCRYPTOR, "reencrypt")},
    SITE_REENCRYPTOR: {(SITE_REENCRYPTOR, "reencrypt")},
    RECOVERY_HANDLER: {
        (RECOVERY_HANDLER, "recover"),
        (RECOVERY_HANDLER, "purge"),
        (DEP_ASSIGNER, "roll"),
        (SITE_REENCRYPTOR, "roll"),
    },
}
ASKED = {
    DEP_ASSIGNER: {"policy", "assignment", "refresh"},
    MAILBOX_REENCRYPTOR: {"move"},
    SITE_REENCRYPTOR: {"site-move"},
    RECOVERY_HANDLER: {"recovery", "purge"},
}
TYPES = sorted(set().union(*ASKED.values()))
JOB = """
INSERT INTO jobs (id, worker, kind, tenant_id, payload, total, done, not_before, trouble, fencing, turn, correlation,
  created_at) VALUES ('{id}', '{worker}', '{kind}', 't', '{{}}', 0, 0, now(), '', 1, 0, 'c', now())
"""
REQUEST = """
INSERT INTO requests (source, id, publisher, type, correlation, digest, accepted, answer, received_at)
VALUES ('s', '{id}', 'p', 'twinlock.{type}.requested.v1', 'c', '\\x00', true, '{{}}', now())
"""
TURN = "INSERT INTO turns VALUES ('{}', '{}', 0)"
SLOT = "INSERT INTO wake_slots VALUES ('{}', {}, NULL, NULL)"
RECEIPT = "INSERT INTO inbox VALUES ('{consumer}', '{publisher}', 's', '{id}', '\\x00', now())"
# How many rows each statement finds, as whoever calls, and -1 for one that is refused; nothing of it stays.
_TRIED = """
CREATE FUNCTION tried(statements text[]) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE answers bigint[]; each text; many bigint;
BEGIN
  FOREACH each IN ARRAY statements LOOP
    BEGIN
      EXECUTE each;
      GET DIAGNOSTICS many = ROW_COUNT;
      RAISE EXCEPTION USING ERRCODE = 'TW001';
    EXCEPTION
      WHEN SQLSTATE 'TW001' THEN answers := answers || many;
      WHEN insufficient_privilege THEN answers := answers || -1::bigint;
    END;
  END LOOP;
  RETURN answers;
END $$
"""
_CROWD = """
INSERT INTO jobs SELECT (jsonb_populate_record(j, jsonb_build_object('id', j.id || n))).*
FROM jobs j, generate_series(1, 1000) n
"""

Named = TypeVar("Named")

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def roles(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Roles]:
    """Make a database with roles, and in each shared table a row of everybody whom it has rows of."""
    with Roles.made(postgres, tmp_path_factory.mktemp("roles"), "of_rows") as made:
        seeds = [JOB.format(id=f"{worker}:{kind}", worker=worker, kind=kind) for worker, kind in _everything()]
        seeds += [REQUEST.format(id=each, type=each) for each in TYPES]
        for worker in WITH_JOBS:
            seeds += [
                TURN.format(worker, "t"),
                SLOT.format(worker, 0),
                RECEIPT.format(consumer=worker, publisher="p", id="old"),
                RECEIPT.format(consumer=COLLECTOR, publisher=worker, id="old"),
            ]
        made.load(";".join([_TRIED, *seeds]))
        yield made


def _everything() -> Sequence[tuple[str, str]]:
    return list(product(WITH_JOBS, KINDS))


def _done(roles: Roles, login: str, statements: Mapping[Named, str]) -> set[Named]:
    """Return the names of the statements that find exactly one row."""
    found = roles.of(login, "SELECT tried($1)", list(statements.values()))
    return {name for name, many in zip(statements, found, strict=True) if many == 1}


def _about(template: str) -> dict[tuple[str, str], str]:
    return {each: template.format(f"{each[0]}:{each[1]}") for each in _everything()}


@pytest.mark.parametrize("login", WITH_JOBS)
def test_jobs(roles: Roles, login: str) -> None:
    """A worker puts jobs of its own and those that it orders, ends its own alone, and nothing makes one another's."""
    own = {(login, kind) for kind in KINDS}
    new = {each: JOB.format(id="new", worker=each[0], kind=each[1]) for each in _everything()}

    assert PUTS[login] == _done(roles, login, new)
    assert own | PUTS[login] == _done(roles, login, _about("SELECT id FROM jobs WHERE id = '{}'"))
    assert own | PUTS[login] == _done(roles, login, _about("SELECT id FROM jobs WHERE id = '{}' FOR UPDATE"))
    assert own | PUTS[login] == _done(roles, login, _about("UPDATE jobs SET trouble = '-' WHERE id = '{}'"))
    assert own == _done(roles, login, _about("DELETE FROM jobs WHERE id = '{}'"))

    forever = ("id", "worker", "kind", "tenant_id", "container_id", "created_at")
    assert {DENIED} == set(roles.of(login, "SELECT tried($1)", [f"UPDATE jobs SET {each} = NULL" for each in forever]))  # noqa: S608  # ours


@pytest.mark.parametrize("login", sorted({*ROLES} - {*WITH_JOBS}))
def test_jobs_of_others(roles: Roles, login: str) -> None:
    """Who has no jobs writes none; who has to look at all of them, or tells of them, sees all, and nobody else any."""
    sees = {*_everything()} if login in (OPERATOR, ALERT_EMITTER, TIK_CACHE_REFRESHER) else set()
    writes = [JOB.format(id="new", worker=login, kind="roll"), "UPDATE jobs SET trouble = '-'", "DELETE FROM jobs"]

    assert sees == _done(roles, login, _about("SELECT id FROM jobs WHERE id = '{}'"))
    assert [DENIED] * 3 == roles.of(login, "SELECT tried($1)", writes)


@pytest.mark.parametrize("login", WITH_JOBS)
def test_turns_and_slots(roles: Roles, login: str) -> None:
    """A worker takes its own turns and keeps its own slots; those whom it orders work from it wakes, and no other."""
    woken = {worker for worker, _ in PUTS[login]}

    for template, whose in (
        (TURN.format("{}", "new"), woken),
        ("SELECT turn FROM turns WHERE worker = '{}'", woken),
        ("UPDATE turns SET turn = 9 WHERE worker = '{}'", {login}),
        (SLOT.format("{}", 1), {login}),
        ("SELECT slot FROM wake_slots WHERE worker = '{}' FOR UPDATE", woken),
        ("UPDATE wake_slots SET event_id = NULL WHERE worker = '{}'", woken),
        ("DELETE FROM wake_slots WHERE worker = '{}'", {login}),
    ):
        assert whose == _done(roles, login, {worker: template.format(worker) for worker in WITH_JOBS}), template


@pytest.mark.parametrize("login", WITH_JOBS)
def test_law_11_own_inbox(roles: Roles, login: str) -> None:
    """Law 11: nobody has another's event count as handled, or as not handled; a letter is its collector's."""
    handled = {worker: (worker, "p") for worker in WITH_JOBS} | {f"@{each}": (COLLECTOR, each) for each in WITH_JOBS}
    own = {login, f"@{login}"}

    for template in (
        RECEIPT.format(consumer="{}", publisher="{}", id="new"),
        "SELECT id FROM inbox WHERE (consumer, publisher) = ('{}', '{}')",
        "DELETE FROM inbox WHERE (consumer, publisher) = ('{}', '{}')",
    ):
        assert own == _done(roles, login, {each: template.format(*who) for each, who in handled.items()}), template


@pytest.mark.parametrize("login", WITH_JOBS)
def test_law_13_own_requests(roles: Roles, login: str) -> None:
    """Law 13: a worker settles the requests that come to it, and no others; it finds that an id is any other's."""
    answers = ASKED[login] | ({"assignment", "refresh"} if login == SITE_REENCRYPTOR else set())
    end = "UPDATE requests SET outcome = 'done' WHERE id = '{}'"

    assert ASKED[login] == _done(roles, login, {each: REQUEST.format(id="new", type=each) for each in TYPES})
    assert answers == _done(roles, login, {each: end.format(each) for each in TYPES})
    assert {*TYPES} == _done(roles, login, {each: f"SELECT id FROM requests WHERE id = '{each}'" for each in TYPES})  # noqa: S608


def test_nothing_to_hear(roles: Roles) -> None:
    """Who hears of no requests writes none, and who has no events to handle has no receipts."""
    for login in (ALERT_EMITTER, AUDIT_SEALER, TIK_CACHE_REFRESHER):
        statements = [REQUEST.format(id="new", type="policy"), "UPDATE requests SET outcome = 'done'"]

        assert [DENIED] * 2 == roles.of(login, "SELECT tried($1)", statements)
        assert [0] == roles.of(login, "SELECT tried($1)", ["SELECT id FROM inbox"])


def test_plans(roles: Roles) -> None:
    """The rules cost no index: what workers ask for is found by one, as it is for the owner."""
    roles.load(_CROWD)
    roles.load("ANALYZE jobs")
    for login, asked in (
        (MAILBOX_REENCRYPTOR, "id = 'x' FOR UPDATE"),
        (DEP_ASSIGNER, "worker = 'mailbox_reencryptor' AND tenant_id = 't' ORDER BY turn LIMIT 1"),
        (SITE_REENCRYPTOR, "worker = 'site_reencryptor' AND not_before <= now() - interval '1 day' LIMIT 1"),
        (OPERATOR, "correlation = 'x'"),
    ):
        plan = roles.of(login, f"EXPLAIN (FORMAT JSON) SELECT * FROM jobs WHERE {asked}")  # noqa: S608

        assert "Index" in plan, plan
        assert "Seq Scan" not in plan, plan
