"""Who may ask the custodian for what, and what a call has to name (law 10): one table, and nothing beside it.

A background worker asks for a purpose of its own alone, and names the live work that it is for. Only who acts for
people, the operator's commands, may say that a person asks, or read as the service without work of its own.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from schemas.facts import AlertRaised
from schemas.identifiers import PROVIDER, Audience, Severity
from schemas.names import DEP_ASSIGNER, MAILBOX_REENCRYPTOR, OPERATOR, SITE_REENCRYPTOR
from schemas.requests import MoveRequested, PolicyRequested, RefreshRequested, SiteMoveRequested
from twinlock.custody.port import Initiator, InitiatorClass


class Operation(StrEnum):
    """Name what the custodian offers."""

    PROBE = "probe"
    MAKE_POLICY_KEY = "make-policy-key"
    REWRAP_POLICY_KEY = "rewrap-policy-key"
    OPEN_CONTAINER_KEY = "open-container-key"
    MAKE_CONTAINER_KEYS = "make-container-keys"
    REWRAP_CONTAINERS = "rewrap-containers"


class Needs(StrEnum):
    """Say what a call has to name besides its purpose."""

    NOTHING = "nothing"
    JOB = "job"
    REQUEST = "request"


@dataclass(frozen=True, slots=True)
class Permit:
    """Allow operations to one caller for one purpose; `of` is the kind of job, or the type of request, to be named."""

    operations: frozenset[Operation]
    needs: Needs = Needs.NOTHING
    of: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """Hold one line of the table, for people."""

    caller: str
    initiator: str
    operations: tuple[str, ...]
    names: str


def _permit(*operations: Operation, job: str = "", request: str = "") -> Permit:
    needs = Needs.JOB if job else Needs.REQUEST if request else Needs.NOTHING
    return Permit(frozenset(operations), needs, job or request)


_SERVICE: Mapping[str, Mapping[str, Permit]] = {
    DEP_ASSIGNER: {
        "create-policy": _permit(Operation.PROBE, Operation.MAKE_POLICY_KEY, request=PolicyRequested.type),
        "refresh": _permit(Operation.REWRAP_POLICY_KEY, Operation.MAKE_POLICY_KEY, request=RefreshRequested.type),
        "assign": _permit(Operation.REWRAP_CONTAINERS, Operation.MAKE_CONTAINER_KEYS, job="assign"),
        "roll": _permit(Operation.REWRAP_CONTAINERS, Operation.MAKE_CONTAINER_KEYS, job="roll"),
    },
    MAILBOX_REENCRYPTOR: {
        "move": _permit(Operation.MAKE_CONTAINER_KEYS, request=MoveRequested.type),
        "reencrypt": _permit(Operation.OPEN_CONTAINER_KEY, Operation.MAKE_CONTAINER_KEYS, job="reencrypt"),
    },
    SITE_REENCRYPTOR: {
        "move": _permit(Operation.MAKE_CONTAINER_KEYS, request=SiteMoveRequested.type),
        "reencrypt": _permit(Operation.OPEN_CONTAINER_KEY, job="reencrypt"),
        "assign": _permit(Operation.REWRAP_CONTAINERS, Operation.MAKE_CONTAINER_KEYS, job="assign"),
        "roll": _permit(Operation.REWRAP_CONTAINERS, Operation.MAKE_CONTAINER_KEYS, job="roll"),
    },
    OPERATOR: {
        "add-mailbox": _permit(Operation.MAKE_CONTAINER_KEYS),
        "add-site": _permit(Operation.MAKE_CONTAINER_KEYS),
        "probe": _permit(Operation.PROBE),
    },
}
_USER: Mapping[str, Permit] = {OPERATOR: _permit(Operation.OPEN_CONTAINER_KEY)}
# `--as service:PURPOSE`: an operator sees what the service would be given; each such call is audited and alerted.
_AS_SERVICE: Mapping[str, Permit] = {OPERATOR: _permit(Operation.OPEN_CONTAINER_KEY)}

CALLERS = tuple(_SERVICE)


def permit(caller: str, initiator: Initiator, operation: Operation) -> Permit | None:
    """Return what allows this call, or none."""
    if initiator.kind is InitiatorClass.USER:
        found = _USER.get(caller)
    else:
        own = _SERVICE.get(caller, {}).get(initiator.purpose)
        found = own if own is not None and operation in own.operations else _AS_SERVICE.get(caller)
    return found if found is not None and operation in found.operations else None


def acts_for_people(caller: str) -> bool:
    """Tell whether somebody waits for what this caller asks: its calls are kept apart from background work."""
    return caller in _USER


def reads_as_service(caller: str, initiator: Initiator, operation: Operation) -> bool:
    """Tell whether an operator opens content in the service's name: it is told to engineering."""
    return (
        caller in _AS_SERVICE and initiator.kind is InitiatorClass.SERVICE and operation is Operation.OPEN_CONTAINER_KEY
    )


def read_as_service(caller: str, initiator: Initiator, container_id: str) -> AlertRaised:
    """Return what tells engineering of such a read."""
    return AlertRaised(
        kind="read-as-service",
        severity=Severity.WARNING,
        audience=Audience.ENGINEERING,
        tenant=PROVIDER,
        detail=f"{caller} reads container {container_id} as {initiator}",
    )


def table() -> Iterator[Row]:
    """Yield the whole table."""
    for caller in CALLERS:
        if caller in _USER:
            yield _row(caller, "user", _USER[caller])
        for purpose, found in _SERVICE[caller].items():
            yield _row(caller, f"service:{purpose}", found)
        if caller in _AS_SERVICE:
            yield _row(caller, "service:…", _AS_SERVICE[caller])


def _row(caller: str, initiator: str, found: Permit) -> Row:
    operations = tuple(each.value for each in Operation if each in found.operations)
    return Row(caller, initiator, operations, f"{found.needs.value} {found.of}".strip())
