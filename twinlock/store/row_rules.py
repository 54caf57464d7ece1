"""Which rows of a table that several logins share each of them sees, adds, changes and deletes: PostgreSQL's policies.

A worker has its own rows, and of another's those that it orders: `dep_assigner` the work that follows an assignment,
`recovery_handler` the rolls that follow a recovery. A condition is constant for its role, and compares columns with
words alone, so that every index serves as it did. Who has no rule for a verb has no row for it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from schemas.names import (
    ALERT_EMITTER,
    COLLECTOR,
    DEP_ASSIGNER,
    MAILBOX_REENCRYPTOR,
    OPERATOR,
    RECOVERY_HANDLER,
    SITE_REENCRYPTOR,
    TIK_CACHE_REFRESHER,
)
from schemas.requests import (
    AssignmentRequested,
    MoveRequested,
    PolicyRequested,
    PurgeRequested,
    RecoveryRequested,
    RefreshRequested,
    SiteMoveRequested,
)

_EVERY = "true"


@dataclass(frozen=True, slots=True)
class Rows:
    """Hold the conditions of one login for one table."""

    seen: str | None = None
    added: str | None = None
    changed: str | None = None
    deleted: str | None = None

    def conditions(self) -> Iterator[tuple[str, str]]:
        """Yield the verbs that any row is there for, with their conditions."""
        found = {"SELECT": self.seen, "INSERT": self.added, "UPDATE": self.changed, "DELETE": self.deleted}
        yield from ((verb, condition) for verb, condition in found.items() if condition is not None)


# By login and worker, the kinds of jobs that are put there.
_ORDERS: Mapping[str, Mapping[str, Sequence[str]]] = {
    DEP_ASSIGNER: {
        DEP_ASSIGNER: ("assign", "roll"),
        MAILBOX_REENCRYPTOR: ("reencrypt",),
        SITE_REENCRYPTOR: ("assign", "roll"),
    },
    MAILBOX_REENCRYPTOR: {MAILBOX_REENCRYPTOR: ("reencrypt",)},
    SITE_REENCRYPTOR: {SITE_REENCRYPTOR: ("reencrypt",)},
    RECOVERY_HANDLER: {
        RECOVERY_HANDLER: ("recover", "purge"),
        DEP_ASSIGNER: ("roll",),
        SITE_REENCRYPTOR: ("roll",),
    },
}
# Whose requests a login receives first, and settles; a rollout answers what its assignment was asked for.
_RECEIVES: Mapping[str, Sequence[str]] = {
    DEP_ASSIGNER: (PolicyRequested.type, AssignmentRequested.type, RefreshRequested.type),
    MAILBOX_REENCRYPTOR: (MoveRequested.type,),
    SITE_REENCRYPTOR: (SiteMoveRequested.type,),
    RECOVERY_HANDLER: (RecoveryRequested.type, PurgeRequested.type),
}
_ANSWERS = {**_RECEIVES, SITE_REENCRYPTOR: (SiteMoveRequested.type, AssignmentRequested.type, RefreshRequested.type)}
# The custodian holds every call against the work that it names; the others tell people of it.
_SEES_ALL_JOBS = (TIK_CACHE_REFRESHER, OPERATOR, ALERT_EMITTER)


def _outbox(login: str) -> Rows:
    # Under another's name they would be sent as theirs.
    own = _of("publisher", login)
    return Rows(_EVERY, own, own, own)


def _audit_entries(login: str) -> Rows:
    return Rows(_EVERY, _of("writer", login))


def _jobs(login: str) -> Rows:
    if login in _SEES_ALL_JOBS:
        return Rows(_EVERY)
    if login not in _ORDERS:
        return Rows()
    own = _of("worker", login)
    ordered = {worker: f"{_of('worker', worker)} AND {_of('kind', *kinds)}" for worker, kinds in _ORDERS[login].items()}
    concerned = _any(own, *(each for worker, each in ordered.items() if worker != login))
    return Rows(concerned, _any(*ordered.values()), concerned, own)


def _turns(login: str) -> Rows:
    own = _of("worker", login)
    return Rows(_of("worker", *_woken(login)), _of("worker", *_woken(login)), own) if login in _ORDERS else Rows()


def _wake_slots(login: str) -> Rows:
    own, woken = _of("worker", login), _of("worker", *_woken(login))
    return Rows(woken, own, woken, own) if login in _ORDERS else Rows()


def _inbox(login: str) -> Rows:
    collected = f"{_of('consumer', COLLECTOR)} AND {_of('publisher', login)}"
    own = _any(_of("consumer", login), collected)
    return Rows(own, own, None, own)


def _requests(login: str) -> Rows:
    # Seen by all: whoever receives one has to find that its id is taken, by whatever other request.
    if login == OPERATOR:
        return Rows(_EVERY, _EVERY)
    if login not in _RECEIVES:
        return Rows(_EVERY)
    return Rows(_EVERY, _of("type", *_RECEIVES[login]), _of("type", *_ANSWERS[login]))


RULES: Mapping[str, Callable[[str], Rows]] = {
    "outbox": _outbox,
    "audit_entries": _audit_entries,
    "jobs": _jobs,
    "turns": _turns,
    "wake_slots": _wake_slots,
    "inbox": _inbox,
    "requests": _requests,
}


def _woken(login: str) -> Sequence[str]:
    return tuple(_ORDERS.get(login, ()))


def _of(column: str, *words: str) -> str:
    quoted = ", ".join(f"'{word}'" for word in words)
    return f"{column} IN ({quoted})" if len(words) > 1 else f"{column} = {quoted}"


def _any(*conditions: str) -> str:
    return " OR ".join(f"({each})" for each in conditions)
