"""Who may produce which fact: a login of the broker is the name of its worker (law 13).

Least privilege: whoever takes one worker over can tell the others only what that worker tells.
"""

from collections.abc import Mapping
from types import MappingProxyType

from schemas import facts

OPERATOR = "operator"  # the login of the command line: it asks for things, and never tells facts

_ASSIGNER = "dep_assigner"
_MAILBOXES = "mailbox_reencryptor"
_REFRESHER = "tik_cache_refresher"
_RECOVERY = "recovery_handler"

WORKERS = frozenset({_ASSIGNER, _MAILBOXES, "site_reencryptor", _REFRESHER, "alert_emitter", _RECOVERY})

_CUSTODIANS = frozenset({_REFRESHER, _RECOVERY})

PRODUCERS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        facts.RequestAnswered.type: frozenset({_ASSIGNER, _MAILBOXES}),
        facts.PolicyCreated.type: frozenset({_ASSIGNER}),
        facts.PolicyRefreshed.type: frozenset({_ASSIGNER}),
        facts.HealthChanged.type: _CUSTODIANS,
        facts.AlertRaised.type: WORKERS,  # each raises one about what it gives up
        facts.AssignmentExpanded.type: frozenset({_ASSIGNER}),
        facts.AssignmentWoken.type: frozenset({_ASSIGNER}),
        facts.ReencryptionWoken.type: frozenset({_ASSIGNER, _MAILBOXES}),
        facts.ReencryptionProgressed.type: frozenset({_MAILBOXES}),
        facts.ReencryptionCompleted.type: frozenset({_MAILBOXES}),
        facts.DeliveryDeadLettered.type: WORKERS,
    }
)
