"""Seal the audit log every few seconds."""

from twinlock.custody.audit.sealing import Sealer
from workers.roster import Periodic
from workers.settings import WorkerSettings


def sealing(sealer: Sealer, settings: WorkerSettings) -> Periodic:
    """Return what seals; a replica that has not the lease stands by."""
    return Periodic("seal the audit log", settings.seal_seconds, sealer.pass_once)
