"""Who may produce which fact: a login of the broker is the name of its worker (law 13).

Least privilege: whoever takes one worker over can tell the others only what that worker tells.
"""

from collections.abc import Mapping
from types import MappingProxyType

from schemas import facts
from schemas.names import (
    ALERT_EMITTER,
    AUDIT_SEALER,
    DEP_ASSIGNER,
    MAILBOX_REENCRYPTOR,
    RECOVERY_HANDLER,
    SITE_REENCRYPTOR,
    TIK_CACHE_REFRESHER,
    WORKERS,
)

_CUSTODIANS = frozenset({TIK_CACHE_REFRESHER, RECOVERY_HANDLER})

PRODUCERS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        facts.RequestAnswered.type: frozenset({DEP_ASSIGNER, MAILBOX_REENCRYPTOR, SITE_REENCRYPTOR, RECOVERY_HANDLER}),
        facts.PolicyCreated.type: frozenset({DEP_ASSIGNER}),
        facts.PolicyRefreshed.type: frozenset({DEP_ASSIGNER}),
        facts.PolicyRecovered.type: frozenset({RECOVERY_HANDLER}),
        facts.PolicyRevoked.type: _CUSTODIANS,
        facts.PolicyRestored.type: _CUSTODIANS,
        facts.HealthChanged.type: _CUSTODIANS,
        facts.AlertRaised.type: WORKERS,  # each raises one about what it gives up
        facts.AlertCleared.type: WORKERS,
        facts.AlertChanged.type: frozenset({ALERT_EMITTER}),
        facts.ApprovalRequested.type: _CUSTODIANS,
        facts.ApprovalGranted.type: _CUSTODIANS,
        facts.ApprovalSettled.type: _CUSTODIANS,
        facts.AssignmentExpanded.type: frozenset({DEP_ASSIGNER}),
        facts.AssignmentWoken.type: frozenset({DEP_ASSIGNER, RECOVERY_HANDLER}),
        facts.ReencryptionWoken.type: frozenset({DEP_ASSIGNER, MAILBOX_REENCRYPTOR}),
        facts.ReencryptionProgressed.type: frozenset({MAILBOX_REENCRYPTOR}),
        facts.ReencryptionCompleted.type: frozenset({MAILBOX_REENCRYPTOR}),
        facts.RecoveryWoken.type: frozenset({RECOVERY_HANDLER}),
        facts.RolloutWoken.type: frozenset({DEP_ASSIGNER, SITE_REENCRYPTOR, RECOVERY_HANDLER}),
        facts.GeoProgressed.type: frozenset({SITE_REENCRYPTOR}),
        facts.GeoCompleted.type: frozenset({SITE_REENCRYPTOR}),
        facts.SiteProgressed.type: frozenset({SITE_REENCRYPTOR}),
        facts.SiteReencrypted.type: frozenset({SITE_REENCRYPTOR}),
        facts.DeliveryDeadLettered.type: WORKERS,
        facts.AuditCheckpointed.type: frozenset({AUDIT_SEALER}),
    }
)
