"""Which mailboxes and geos a policy may take: one sentence for each that it may not."""

from collections.abc import Sequence

from schemas.identifiers import MailboxKind
from twinlock.content.containers import Container
from twinlock.custody.policies import Policy


def why_not(container: Container | None, policy: Policy, tenant_id: str, trial: bool) -> str | None:
    """Return why a mailbox can't be put under a policy, or None where it can.

    `tenant_id` is whose mailboxes were asked for, the policy's own tenant if that was not said; `trial` is the
    mailbox's tenant's licence.
    """
    if container is None:
        return "there is no such mailbox"
    if tenant_id not in (container.tenant_id, policy.tenant_id):
        return f"it belongs to tenant {container.tenant}, for which this was not asked"
    if policy.is_service:
        return None
    if container.tenant_id != policy.tenant_id:
        return f"it belongs to tenant {container.tenant}, the policy to {policy.tenant}"
    if trial:
        return f"{container.tenant} is a trial tenant: only one added without --trial can have customer policies"
    if not container.licensed and container.kind is not MailboxKind.SHARED:
        return "it is marked unlicensed; only shared mailboxes need no licence"
    return None


def why_not_geos(policy: Policy, geos: Sequence[str], trial: bool) -> str | None:
    """Return why a site policy can't take the sites of geos, or None where it can."""
    if not geos:
        return "there is no site, and no geo is named"
    if policy.is_service:
        return None
    if trial:
        return f"{policy.tenant} is a trial tenant: it can't have customer policies"
    others = [geo for geo in geos if geo != policy.geo]
    return f"policy {policy} is for geo {policy.geo}, not for {', '.join(others)}" if others else None
