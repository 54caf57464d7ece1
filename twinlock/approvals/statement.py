"""What approvers sign: one statement, in bytes that a person can read and that no other statement encodes to.

    "twinlock.approval." action ".v1" || 0x00 || JSON || "\\n"

The JSON is ASCII, with sorted keys and an indent of two: what a terminal shows is what is signed, since a character
that could steer it or look like another is written as its number. The action stands in the label as well, so that a
signature for one action is void for every other, and for everything else that is ever signed here.
"""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from pydantic import TypeAdapter, ValidationError

_LABEL = "twinlock.approval.{action}.v1"
MAX_BYTES = 64 * 1024
MAX_REASON = 1000


class Action(StrEnum):
    """What needs two signatures."""

    RESTORE_POLICY = "restore-policy"
    ADD_APPROVER = "add-approver"
    REMOVE_APPROVER = "remove-approver"
    RECOVER = "recover"
    PURGE = "purge"


class BadStatement(ValueError):
    """Say that bytes are no statement, or one that is not written as it has to be."""


@dataclass(frozen=True, slots=True)
class NewKey:
    """Name a root key that a policy is to have: which slot, where, and which key it has to be."""

    slot: str
    uri: str
    version: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class NamedPolicy:
    """Name the policy that it is about, and the generation of its policy key."""

    id: str
    name: str
    generation: int


@dataclass(frozen=True, slots=True)
class NamedApprover:
    """Name who comes or goes, and the change of the approvers that this one follows (its hash, in hex)."""

    name: str
    fingerprint: str
    wait_seconds: int
    previous: str


@dataclass(frozen=True, slots=True)
class NamedPurge:
    """Say who answers for a purge, how long it may still be cancelled, and whose signature its certificate has to have.

    `certificate_key` is the fingerprint of that key, in hex.
    """

    contact: str
    wait_seconds: int
    certificate_key: str


@dataclass(frozen=True, slots=True)
class Statement:
    """Say what is to be done, where, to what, why, and until when it may be."""

    action: Action
    installation: str
    tenant_id: str
    tenant: str
    request: str
    reason: str
    requested: datetime
    expires: datetime
    policy: NamedPolicy | None = None
    keys: tuple[NewKey, ...] = ()
    approver: NamedApprover | None = None
    although_revoked: bool = False  # only where it is true does it stand in the bytes
    purge: NamedPurge | None = None  # only a purge's statement has it in its bytes

    def __post_init__(self) -> None:
        for at in (self.requested, self.expires):
            if at.utcoffset() is None:
                raise BadStatement("a statement's moments have a time zone")
        if len(self.reason) > MAX_REASON:
            raise BadStatement(f"a reason has up to {MAX_REASON} characters")
        _refuse_surrogates(asdict(self))

    @property
    def label(self) -> bytes:
        """Return what separates this action from all others."""
        return _LABEL.format(action=self.action.value).encode()

    @property
    def body(self) -> bytes:
        """Return what is signed below the label."""
        moments = {"requested": moment(self.requested), "expires": moment(self.expires)}
        fields = {**asdict(self), **moments, "action": self.action.value}
        if not self.although_revoked:
            del fields["although_revoked"]
        if self.purge is None:
            del fields["purge"]
        return (json.dumps(fields, indent=2, sort_keys=True, ensure_ascii=True) + "\n").encode("ascii")

    def encode(self) -> bytes:
        """Return the exact bytes that are signed."""
        return self.label + b"\x00" + self.body


_STATEMENT: TypeAdapter[Statement] = TypeAdapter(Statement)


def parse(encoded: bytes) -> Statement:
    """Return the statement that encodes to exactly these bytes; raise `BadStatement` where there is none."""
    if len(encoded) > MAX_BYTES:
        raise BadStatement("too long for a statement")
    _label, _zero, body = encoded.partition(b"\x00")
    try:
        found = _STATEMENT.validate_json(body)
    except ValidationError:
        raise BadStatement("not a statement") from None
    if found.encode() != encoded:
        raise BadStatement("not as a statement is written")
    return found


def moment(at: datetime) -> str:
    """Return a moment as it is written in what is signed or hashed."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def _refuse_surrogates(value: Any) -> None:
    # JSON writes two halves of a pair like the character that they make: two texts would be one.
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for part in value:
            _refuse_surrogates(part)
    elif isinstance(value, str) and any("\ud800" <= char <= "\udfff" for char in value):
        raise BadStatement("a statement is text, and half a character is none")
