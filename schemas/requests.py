"""What registered publishers may ask for."""

from typing import Annotated, ClassVar, Self

from pydantic import ConfigDict, Field, JsonValue, model_validator

from schemas.event import Event
from schemas.identifiers import (
    PROVIDER,
    AvailabilityMode,
    Detail,
    Geo,
    KeyUri,
    Label,
    MailboxAddress,
    PolicyName,
    PolicyReference,
    SiteName,
    TenantName,
    Workload,
)


def _one_of(*ways: str) -> list[JsonValue]:
    """Return one schema for each way in which something is named; the others are empty or false then."""
    named: dict[str, JsonValue] = {way: {"minItems": 1} for way in ways if not way.startswith("all_")}
    given: dict[str, JsonValue] = {way: named.get(way, {"const": True}) for way in ways}
    empty: dict[str, JsonValue] = {way: {"maxItems": 0} if way in named else {"const": False} for way in ways}
    return [{"required": [way], "properties": {**empty, way: given[way]}} for way in ways]


class PolicyRequested(Event):
    """Ask for a new policy; both root keys are checked live before anything is stored."""

    type: ClassVar[str] = "twinlock.policy.requested.v1"

    tenant: TenantName
    name: PolicyName
    workload: Workload
    mode: AvailabilityMode
    keys: tuple[KeyUri, KeyUri]
    geo: Geo | None = None

    @model_validator(mode="after")
    def _has_its_geo(self) -> Self:
        if self.geo is not None and self.workload is not Workload.SITE:
            raise ValueError("only a policy of workload site has a geo")
        if self.geo is None and self.workload is Workload.SITE and self.tenant != PROVIDER:
            raise ValueError("a policy of workload site needs a geo")
        return self

    @property
    def subject(self) -> str:
        """Name the policy that will be."""
        return f"{self.tenant}/{self.name}"


class AssignmentRequested(Event):
    """Ask to put mailboxes, or the sites of geos, under a policy; `service` reverts them to the provider's keys."""

    model_config = ConfigDict(json_schema_extra={"oneOf": _one_of("mailboxes", "geos", "all_mailboxes", "all_geos")})

    type: ClassVar[str] = "twinlock.assignment.requested.v1"

    policy: PolicyReference
    tenant: TenantName | None = None
    mailboxes: Annotated[tuple[MailboxAddress, ...], Field(max_length=500)] = ()
    all_mailboxes: bool = False
    geos: Annotated[tuple[Geo, ...], Field(max_length=100)] = ()
    all_geos: bool = False

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if [bool(self.mailboxes), self.all_mailboxes, bool(self.geos), self.all_geos].count(True) != 1:
            raise ValueError("name mailboxes or geos, or ask for all mailboxes or all geos: one of the four")
        return self

    @property
    def workload(self) -> Workload:
        """Return what it is about."""
        return Workload.SITE if self.geos or self.all_geos else Workload.MAILBOX

    @property
    def subject(self) -> str:
        """Name the policy as the publisher did."""
        return self.policy


class RefreshRequested(Event):
    """Ask to bring a policy onto the newest versions of its root keys, or onto a new policy key."""

    type: ClassVar[str] = "twinlock.refresh.requested.v1"

    policy: PolicyReference
    new_policy_key: bool = False

    @property
    def subject(self) -> str:
        """Name the policy as the publisher did."""
        return self.policy


class RecoveryRequested(Event):
    """Ask for the signatures of two approvers, to bring a policy whose root keys are lost onto two new ones."""

    type: ClassVar[str] = "twinlock.recovery.requested.v1"

    policy: PolicyReference
    keys: tuple[KeyUri, KeyUri]
    reason: Detail
    although_revoked: bool = False

    @property
    def subject(self) -> str:
        """Name the policy as the publisher did."""
        return self.policy


class PurgeRequested(Event):
    """Ask for everything under a policy to be destroyed: once two approvers have signed, and time has passed."""

    type: ClassVar[str] = "twinlock.purge.requested.v1"

    policy: PolicyReference
    reason: Detail
    contact: Label

    @property
    def subject(self) -> str:
        """Name the policy as the publisher did."""
        return self.policy


class MoveRequested(Event):
    """Ask to re-encrypt a whole mailbox under a new mailbox key, now."""

    type: ClassVar[str] = "twinlock.move.requested.v1"

    mailbox: MailboxAddress

    @property
    def subject(self) -> str:
        """Name the mailbox."""
        return self.mailbox


class SiteMoveRequested(Event):
    """Ask to re-encrypt every blob of a site under a new site key, now."""

    type: ClassVar[str] = "twinlock.site-move.requested.v1"

    tenant: TenantName
    site: SiteName

    @property
    def subject(self) -> str:
        """Name the site with its tenant."""
        return f"{self.tenant}/{self.site}"
