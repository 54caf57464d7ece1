"""What the fleet tells: facts, published by workers alone."""

from typing import ClassVar

from schemas.event import Event
from schemas.identifiers import (
    AlertNews,
    ApprovalState,
    ApproverName,
    Audience,
    AvailabilityMode,
    Count,
    Counts,
    Detail,
    Geo,
    Hash,
    Identifier,
    KeyUri,
    Label,
    MailboxAddress,
    Moment,
    PolicyHealth,
    PolicyName,
    RequestOutcome,
    Severity,
    Signature,
    SiteName,
    Slot,
    SlotDetails,
    SlotLabels,
    SlotMoments,
    TenantName,
    Version,
    Workload,
)


class RequestAnswered(Event):
    """Tell the publisher how its request ended."""

    type: ClassVar[str] = "twinlock.request.answered.v1"

    request: Identifier
    request_source: Label
    request_type: Label
    outcome: RequestOutcome
    detail: Detail
    publisher: Label | None = None

    @property
    def subject(self) -> str:
        """Name the request."""
        return self.request


class PolicyCreated(Event):
    """Tell that a policy exists and may be assigned."""

    type: ClassVar[str] = "twinlock.policy.created.v1"

    policy: Identifier
    version: Version
    tenant: TenantName
    name: PolicyName
    workload: Workload
    mode: AvailabilityMode
    keys: tuple[KeyUri, KeyUri]
    geo: Geo | None = None

    @property
    def subject(self) -> str:
        """Name the policy."""
        return self.policy


class PolicyRefreshed(Event):
    """Tell that a policy's key is wrapped under the newest versions of its root keys."""

    type: ClassVar[str] = "twinlock.policy.refreshed.v1"

    policy: Identifier
    version: Version
    tenant: TenantName
    generation: Version
    key_versions: SlotLabels

    @property
    def subject(self) -> str:
        """Name the policy."""
        return self.policy


class PolicyRecovered(Event):
    """Tell that a policy is on two new root keys, that two approvers signed for, and has a new policy key."""

    type: ClassVar[str] = "twinlock.policy.recovered.v1"

    policy: Identifier
    version: Version
    tenant: TenantName
    approval: Identifier
    generation: Version
    keys: tuple[KeyUri, KeyUri]

    @property
    def subject(self) -> str:
        """Name the policy."""
        return self.policy


class PolicyRevoked(Event):
    """Tell that a policy serves nobody any more, whatever its keys answer, until it is restored."""

    type: ClassVar[str] = "twinlock.policy.revoked.v1"

    policy: Identifier
    version: Version
    tenant: TenantName
    revocation: Count

    @property
    def subject(self) -> str:
        """Name the policy."""
        return self.policy


class PolicyRestored(Event):
    """Tell that a policy's revocation is lifted: its keys decide again."""

    type: ClassVar[str] = "twinlock.policy.restored.v1"

    policy: Identifier
    version: Version
    tenant: TenantName
    revocation: Count

    @property
    def subject(self) -> str:
        """Name the policy."""
        return self.policy


class HealthChanged(Event):
    """Tell that a policy's root keys answer better or worse than before."""

    type: ClassVar[str] = "twinlock.health.changed.v1"

    policy: Identifier
    version: Version
    tenant: TenantName
    health: PolicyHealth
    was: PolicyHealth
    slots: SlotLabels
    since: SlotMoments | None = None  # a key that was never asked is not among these
    reasons: SlotDetails | None = None  # what its vault said, of each that does not answer

    @property
    def subject(self) -> str:
        """Name the policy."""
        return self.policy


class AlertRaised(Event):
    """Tell the alert emitter something that people may have to act on."""

    type: ClassVar[str] = "twinlock.alert.raised.v1"

    kind: Identifier
    severity: Severity
    audience: Audience
    tenant: TenantName
    policy: Identifier | None = None
    slot: Slot | None = None
    detail: Detail

    @property
    def subject(self) -> str:
        """Name the policy, or the tenant where there is none."""
        return self.policy or self.tenant


class AlertCleared(Event):
    """Tell the alert emitter that what was raised is over."""

    type: ClassVar[str] = "twinlock.alert.cleared.v1"

    kind: Identifier
    audience: Audience
    tenant: TenantName
    policy: Identifier | None = None
    slot: Slot | None = None

    @property
    def subject(self) -> str:
        """Name the policy, or the tenant where there is none."""
        return self.policy or self.tenant


class AlertChanged(Event):
    """Tell people of an alert: that it is there, how often it was raised by now, or that it is over.

    It is the whole alert; of two with the same `alert` the one with the higher `version` holds.
    """

    type: ClassVar[str] = "twinlock.alert.changed.v1"

    alert: Identifier
    version: Version
    news: AlertNews
    kind: Identifier
    severity: Severity
    audience: Audience
    tenant: TenantName
    policy: Identifier | None = None
    slot: Slot | None = None
    detail: Detail
    count: Count
    first_seen: Moment
    last_seen: Moment
    resolved_at: Moment | None = None

    @property
    def subject(self) -> str:
        """Name the alert."""
        return self.alert


class ApprovalRequested(Event):
    """Tell that something waits for the signatures of approvers."""

    type: ClassVar[str] = "twinlock.approval.requested.v1"

    approval: Identifier
    version: Version
    tenant: TenantName
    action: Identifier
    policy: Identifier | None = None
    needed: Count

    @property
    def subject(self) -> str:
        """Name the request."""
        return self.approval


class ApprovalGranted(Event):
    """Tell that one approver has signed a request."""

    type: ClassVar[str] = "twinlock.approval.granted.v1"

    approval: Identifier
    version: Version
    tenant: TenantName
    action: Identifier
    policy: Identifier | None = None
    approver: ApproverName
    approvals: Count

    @property
    def subject(self) -> str:
        """Name the request."""
        return self.approval


class ApprovalSettled(Event):
    """Tell how it stands with a request that waits for no signature any more: approved, done, cancelled or expired."""

    type: ClassVar[str] = "twinlock.approval.settled.v1"

    approval: Identifier
    version: Version
    tenant: TenantName
    action: Identifier
    policy: Identifier | None = None
    state: ApprovalState

    @property
    def subject(self) -> str:
        """Name the request."""
        return self.approval


class AssignmentExpanded(Event):
    """Tell that every container of an assignment is under its new policy, or was rejected; the lists are rows."""

    type: ClassVar[str] = "twinlock.assignment.expanded.v1"

    job: Identifier
    policy: Identifier
    tenant: TenantName
    assigned: Count
    rejected: Count

    @property
    def subject(self) -> str:
        """Name the policy."""
        return self.policy


class AssignmentWoken(Event):
    """Wake the DEP assigner: some job of its own is due. Which one, its step finds out."""

    type: ClassVar[str] = "twinlock.assignment.woken.v1"

    slot: Count

    @property
    def subject(self) -> str:
        """Name the worker."""
        return "dep_assigner"


class ReencryptionWoken(Event):
    """Wake the mailbox re-encryptor: some mailbox is due. Which one, its step finds out."""

    type: ClassVar[str] = "twinlock.reencryption.woken.v1"

    slot: Count

    @property
    def subject(self) -> str:
        """Name the worker."""
        return "mailbox_reencryptor"


class ReencryptionProgressed(Event):
    """Tell how far a mailbox is; at most once a second or a percent."""

    type: ClassVar[str] = "twinlock.reencryption.progressed.v1"

    mailbox: MailboxAddress
    tenant: TenantName
    policy: Identifier
    generation: Version
    items: Count
    items_encrypted: Count

    @property
    def subject(self) -> str:
        """Name the mailbox."""
        return self.mailbox


class ReencryptionCompleted(Event):
    """Tell that every item of a mailbox is under its newest key, and that the older keys are destroyed."""

    type: ClassVar[str] = "twinlock.reencryption.completed.v1"

    mailbox: MailboxAddress
    tenant: TenantName
    policy: Identifier
    generation: Version
    items: Count

    @property
    def subject(self) -> str:
        """Name the mailbox."""
        return self.mailbox


class RecoveryWoken(Event):
    """Wake the recovery handler: something that two approvers signed is due. What, its step finds out."""

    type: ClassVar[str] = "twinlock.recovery.woken.v1"

    slot: Count

    @property
    def subject(self) -> str:
        """Name the worker."""
        return "recovery_handler"


class RolloutWoken(Event):
    """Wake the site re-encryptor: some geo or site is due. Which one, its step finds out."""

    type: ClassVar[str] = "twinlock.rollout.woken.v1"

    slot: Count

    @property
    def subject(self) -> str:
        """Name the worker."""
        return "site_reencryptor"


class GeoProgressed(Event):
    """Tell how many sites of a geo are under its newest TIK; at most once a second or a percent.

    A roll of the provider's own policy has no geo: its sites are everywhere.
    """

    type: ClassVar[str] = "twinlock.geo.progressed.v1"

    tenant: TenantName
    geo: Geo | None = None
    policy: Identifier
    generation: Version
    sites: Count
    sites_done: Count

    @property
    def subject(self) -> str:
        """Name the policy."""
        return self.policy


class GeoCompleted(Event):
    """Tell that every site of a geo is under its newest TIK, or was rejected; the lists are rows."""

    type: ClassVar[str] = "twinlock.geo.completed.v1"

    tenant: TenantName
    geo: Geo | None = None
    policy: Identifier
    generation: Version
    sites: Count
    rejected: Count

    @property
    def subject(self) -> str:
        """Name the policy."""
        return self.policy


class SiteProgressed(Event):
    """Tell how far the re-encryption of a site is; at most once a second or a percent."""

    type: ClassVar[str] = "twinlock.site.progressed.v1"

    site: SiteName
    tenant: TenantName
    policy: Identifier
    generation: Version
    files: Count
    files_encrypted: Count

    @property
    def subject(self) -> str:
        """Name the site with its tenant."""
        return f"{self.tenant}/{self.site}"


class SiteReencrypted(Event):
    """Tell that every blob of a site is under its newest key, and that the older keys are destroyed."""

    type: ClassVar[str] = "twinlock.site.reencrypted.v1"

    site: SiteName
    tenant: TenantName
    policy: Identifier
    generation: Version
    files: Count

    @property
    def subject(self) -> str:
        """Name the site with its tenant."""
        return f"{self.tenant}/{self.site}"


class DeliveryDeadLettered(Event):
    """Tell that a consumer gave up on an event; the letter waits in the dead-letter table."""

    type: ClassVar[str] = "twinlock.delivery.deadlettered.v1"

    consumer: Identifier
    event: Identifier
    event_type: Label
    attempts: Count
    reason: Detail

    @property
    def subject(self) -> str:
        """Name the consumer."""
        return self.consumer


class AuditCheckpointed(Event):
    """Tell how far the chain of the audit log is, signed: who keeps the newest one finds a log that was cut off."""

    type: ClassVar[str] = "twinlock.audit.checkpointed.v1"

    seal: Count
    head: Hash
    entries: Count
    positions: Counts
    at: Moment
    key: Hash
    signature: Signature

    @property
    def subject(self) -> str:
        """Name the audit log; there is one."""
        return "audit"
