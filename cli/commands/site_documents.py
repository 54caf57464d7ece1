"""A site as a document."""

from typing import Any

from twinlock.content.sites import SiteStatus


def describe(status: SiteStatus) -> dict[str, Any]:
    """Return everything about a site."""
    return {
        "site": status.name,
        "tenant": status.tenant,
        "geo": status.geo,
        "is_encrypted": status.is_encrypted,
        "data_encryption_policy_id": status.policy,
        "policy_version": status.policy_version,
        "files": status.files,
        "files_encrypted": status.files_encrypted,
        "bytes": status.bytes,
    }
