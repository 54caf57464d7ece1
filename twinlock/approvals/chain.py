"""Who may approve: a chain of changes that anybody can replay who holds its rows, and nobody can write alone.

The first two approvers come with the tenant, by the operator's word. Every later change stands in a statement that two
approvers who counted at that moment signed, and that names the hash of the change before it. A hash is

    SHA-256("twinlock.approvers.v1" || 0x00 || JSON)

over the fields of the row and the hash before it; the first one follows 32 zero bytes. Nothing here reads a clock.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256

from twinlock.approvals.statement import Action, BadStatement, Statement, moment, parse
from twinlock.keys.signing import BadSignature, fingerprint, verify

LABEL = b"twinlock.approvers.v1\x00"
ROOT = b"\x00" * 32
NEEDED = 2


class Change(StrEnum):
    """What happens to the approvers."""

    ADD = "add"
    REMOVE = "remove"


ACTIONS = {Change.ADD: Action.ADD_APPROVER, Change.REMOVE: Action.REMOVE_APPROVER}


class BrokenChain(Exception):
    """Say at which change the chain stops to be one, and why."""

    def __init__(self, number: int, detail: str) -> None:
        super().__init__(f"change {number}: {detail}")
        self.number = number
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Origin:
    """Name whose approvers these are, of all tenants of all installations."""

    installation: str
    tenant_id: str


@dataclass(frozen=True, slots=True)
class Signature:
    """Hold the signature of the key with this fingerprint (hex)."""

    fingerprint: str
    signature: bytes


@dataclass(frozen=True, slots=True)
class Link:
    """Hold one change of the approvers; without a statement it is one of the first two's."""

    number: int
    change: Change
    name: str
    public_key: bytes
    at: datetime
    counts_from: datetime
    statement: bytes = b""
    signatures: tuple[Signature, ...] = ()

    def digest(self, origin: Origin, previous: bytes) -> bytes:
        """Return the hash of this change as the one that follows another."""
        body = {
            "at": moment(self.at),
            "change": self.change.value,
            "counts_from": moment(self.counts_from),
            "installation": origin.installation,
            "name": self.name,
            "number": self.number,
            "previous": previous.hex(),
            "public_key": self.public_key.hex(),
            "signatures": [[each.fingerprint, each.signature.hex()] for each in self.signatures],
            "statement": self.statement.hex(),
            "tenant_id": origin.tenant_id,
        }
        return sha256(LABEL + json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).digest()


@dataclass(frozen=True, slots=True)
class Approver:
    """Hold one approver; a signature made before `counts_from` is none."""

    name: str
    public_key: bytes
    counts_from: datetime

    @property
    def fingerprint(self) -> str:
        """Return what names the key, in hex."""
        return fingerprint(self.public_key).hex()

    def counts(self, now: datetime) -> bool:
        """Say whether this approver's signature counts."""
        return now >= self.counts_from


@dataclass(frozen=True, slots=True)
class Approvers:
    """Hold the approvers after the last change, and the hash of that."""

    origin: Origin
    members: tuple[Approver, ...] = ()
    number: int = 0
    head: bytes = ROOT
    seen: frozenset[str] = field(default=frozenset())  # every fingerprint there ever was: each comes once

    @property
    def are_first(self) -> bool:
        """Say whether the first two are not complete: until then the operator's word is enough."""
        return len(self.members) < NEEDED

    def suffice(self, now: datetime) -> bool:
        """Say whether there are two whose signatures count."""
        return len(self.counting(now)) >= NEEDED

    def counting(self, now: datetime) -> Sequence[Approver]:
        """Return those whose signatures count."""
        return [member for member in self.members if member.counts(now)]

    def named(self, name: str) -> Approver | None:
        """Return the approver of this name, or none."""
        return next((member for member in self.members if member.name == name), None)

    def signers(self, statement: Statement, signatures: Iterable[Signature], now: datetime) -> Sequence[Approver]:
        """Return the different approvers who count now and whose signature fits the statement."""
        counting = {member.fingerprint: member for member in self.counting(now)}
        found = {}
        for each in signatures:
            member = counting.get(each.fingerprint)
            if member is not None and fits(member, statement, each.signature):
                found[each.fingerprint] = member
        return list(found.values())

    def follow(self, link: Link) -> "Approvers":
        """Return the approvers after one more change; raise `BrokenChain` where it may not be."""
        if fault := _number_fault(self, link) or _member_fault(self, link) or _authority_fault(self, link):
            raise BrokenChain(link.number, fault)
        newcomer = Approver(link.name, link.public_key, link.counts_from)
        if link.change is Change.ADD:
            members = (*self.members, newcomer)
        else:
            members = tuple(member for member in self.members if member.public_key != link.public_key)
        head = link.digest(self.origin, self.head)
        seen = self.seen | {newcomer.fingerprint}
        return replace(self, members=members, number=link.number, head=head, seen=seen)


def fits(approver: Approver, statement: Statement, signature: bytes) -> bool:
    """Say whether a signature is this approver's, over this statement."""
    try:
        verify(approver.public_key, statement.label, statement.body, signature)
    except BadSignature:
        return False
    return True


def replay(origin: Origin, links: Iterable[tuple[Link, bytes]]) -> Approvers:
    """Return the approvers after all changes, each with the hash that was kept; raise `BrokenChain`."""
    approvers = Approvers(origin)
    for link, kept in links:
        approvers = approvers.follow(link)
        if approvers.head != kept:
            raise BrokenChain(link.number, "it is not what its hash was made of")
    return approvers


def _number_fault(approvers: Approvers, link: Link) -> str:
    return "" if link.number == approvers.number + 1 else "a change is missing before it"


def _member_fault(approvers: Approvers, link: Link) -> str:
    known = approvers.named(link.name)
    if link.change is Change.REMOVE:
        return "" if known is not None and known.public_key == link.public_key else "there is no such approver"
    if known is not None:
        return "the name is taken"
    if fingerprint(link.public_key).hex() in approvers.seen:
        return "a key counts for one approver once, for good"
    return ""


def _authority_fault(approvers: Approvers, link: Link) -> str:
    if approvers.are_first:
        return "the first two are not signed for" if link.statement or link.signatures else ""
    try:
        statement = parse(link.statement)
    except BadStatement:
        return "nobody signed for it"
    if fault := _statement_fault(approvers, link, statement):
        return fault
    if len(approvers.signers(statement, link.signatures, link.at)) < NEEDED:
        return "two approvers did not sign for it"
    return _too_few_fault(approvers, link)


def _statement_fault(approvers: Approvers, link: Link, statement: Statement) -> str:
    named, origin = statement.approver, approvers.origin
    if (statement.installation, statement.tenant_id) != (origin.installation, origin.tenant_id):
        return "what was signed is another tenant's"
    told = (ACTIONS[link.change], link.name, fingerprint(link.public_key).hex(), approvers.head.hex())
    if named is None or (statement.action, named.name, named.fingerprint, named.previous) != told:
        return "what was signed is another change"
    if not statement.requested <= link.at < statement.expires:
        return "what was signed did not hold any more"
    if link.change is Change.ADD and link.counts_from < link.at + timedelta(seconds=named.wait_seconds):
        return "it counts earlier than was signed"
    return ""


def _too_few_fault(approvers: Approvers, link: Link) -> str:
    if link.change is Change.ADD:
        return ""
    left = [each for each in approvers.counting(link.at) if each.public_key != link.public_key]
    return "" if len(left) >= NEEDED else "fewer than two approvers would be left"
