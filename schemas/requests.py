"""What registered publishers may ask for."""

from typing import Annotated, ClassVar, Self

from pydantic import ConfigDict, Field, model_validator

from schemas.event import Event
from schemas.identifiers import (
    PROVIDER,
    AvailabilityMode,
    Geo,
    KeyUri,
    MailboxAddress,
    PolicyName,
    PolicyReference,
    TenantName,
    Workload,
)


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
    """Ask to put mailboxes under a policy; `service` as the policy reverts them to the provider's keys."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {
                    "required": ["mailboxes"],
                    "properties": {"mailboxes": {"minItems": 1}, "all_mailboxes": {"const": False}},
                },
                {
                    "required": ["all_mailboxes"],
                    "properties": {"mailboxes": {"maxItems": 0}, "all_mailboxes": {"const": True}},
                },
            ]
        }
    )

    type: ClassVar[str] = "twinlock.assignment.requested.v1"

    policy: PolicyReference
    tenant: TenantName | None = None
    mailboxes: Annotated[tuple[MailboxAddress, ...], Field(max_length=500)] = ()
    all_mailboxes: bool = False

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if bool(self.mailboxes) == self.all_mailboxes:
            raise ValueError("name mailboxes, or ask for all of them, but not both")
        return self

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


class MoveRequested(Event):
    """Ask to re-encrypt a whole mailbox under a new mailbox key, now."""

    type: ClassVar[str] = "twinlock.move.requested.v1"

    mailbox: MailboxAddress

    @property
    def subject(self) -> str:
        """Name the mailbox."""
        return self.mailbox
