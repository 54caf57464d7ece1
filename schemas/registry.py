"""Every event type by its name."""

from collections.abc import Mapping
from types import MappingProxyType

from schemas import facts, requests
from schemas.event import Event

REQUESTS: tuple[type[Event], ...] = (
    requests.PolicyRequested,
    requests.AssignmentRequested,
    requests.RefreshRequested,
    requests.RecoveryRequested,
    requests.PurgeRequested,
    requests.MoveRequested,
    requests.SiteMoveRequested,
)

FACTS: tuple[type[Event], ...] = (
    facts.RequestAnswered,
    facts.PolicyCreated,
    facts.PolicyRefreshed,
    facts.PolicyRecovered,
    facts.PolicyRevoked,
    facts.PolicyRestored,
    facts.HealthChanged,
    facts.AlertRaised,
    facts.AlertCleared,
    facts.AlertChanged,
    facts.ApprovalRequested,
    facts.ApprovalGranted,
    facts.ApprovalSettled,
    facts.AssignmentExpanded,
    facts.AssignmentWoken,
    facts.ReencryptionWoken,
    facts.ReencryptionProgressed,
    facts.ReencryptionCompleted,
    facts.RecoveryWoken,
    facts.RolloutWoken,
    facts.GeoProgressed,
    facts.GeoCompleted,
    facts.SiteProgressed,
    facts.SiteReencrypted,
    facts.DeliveryDeadLettered,
    facts.AuditCheckpointed,
)

EVENTS: Mapping[str, type[Event]] = MappingProxyType({event.type: event for event in (*REQUESTS, *FACTS)})
