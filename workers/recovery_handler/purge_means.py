"""What the recovery handler purges with, beside its custodian."""

from dataclasses import dataclass

from twinlock.approvals.settings import ApprovalSettings
from twinlock.content.purging import ContentPurger
from twinlock.custody.audit.log import AuditLog
from twinlock.custody.port import Recovering
from twinlock.keys.signing import SigningKey
from twinlock.purging.requesting import Requesting
from twinlock.store.unit import Store
from workers.recovery_handler.purge import CarryOutPurge
from workers.recovery_handler.purge_keys import KeyPurger
from workers.settings import WorkerSettings


@dataclass(frozen=True, slots=True)
class PurgeMeans:
    """Hold the content to destroy, the key that signs certificates, and where it is audited.

    For `callers_seconds` after the request callers may hold keys of containers, and the fleet's custodians serve.
    """

    content: ContentPurger
    key: SigningKey
    audit: AuditLog
    settings: ApprovalSettings
    callers_seconds: float

    @property
    def requesting(self) -> Requesting:
        """Return what takes requests."""
        return Requesting(self.audit, self.settings, self.key.public)

    def carrying(self, store: Store, recovering: Recovering, settings: WorkerSettings) -> CarryOutPurge:
        """Return what carries them out."""
        keys = KeyPurger(store, recovering, self.audit, self.key)
        return CarryOutPurge(store, recovering, self.content, keys, self.audit, settings, self.callers_seconds)
