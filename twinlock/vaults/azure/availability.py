"""Availability keys in a vault of Azure: RSA keys that the provider makes, and destroys as far as the vault lets it.

A key of ours has the label `twinlock: availability`. It is deleted softly at first, then purged. Where the vault is
protected from that, it keeps the key to the end of its retention, which is when the destruction is final.
"""

from typing import Any

from twinlock.keys.ports import Destruction, KeyDescription
from twinlock.vaults.azure.answers import is_purgeable, read_tags, read_time
from twinlock.vaults.azure.reasons import Reason, VaultFault
from twinlock.vaults.azure.uris import cloud_of
from twinlock.vaults.azure.vault import AzureVault, deleted
from twinlock.vaults.uris import KeyUri

_TAG, _PURPOSE = "twinlock", "availability"
_BITS = 3072
_OPERATIONS = ["wrapKey", "unwrapKey"]
# The purge of a key whose deletion is still under way, and of one that was purged just now.
_UNDER_WAY = (Reason.DELETED, Reason.UNKNOWN_KEY)


class AzureAvailabilityVault(AzureVault):
    """Implement `DestroyingVault`; our application has the rights to create, delete and purge there as well."""

    async def create(self, uri: str) -> KeyDescription:
        """Make a key, or find the one that a repeat of the same request made before."""
        return await self._answer(uri, lambda: self._create(self.locate(uri)))

    async def destroy(self, uri: str) -> Destruction:
        """Destroy a key: nothing uses it any more. Asked again, also of one that is gone, it says how far that is."""
        return await self._answer(uri, lambda: self._destroy(self.locate(uri)))

    async def _create(self, key: KeyUri) -> KeyDescription:
        try:
            found = await self._existing(key)
        except VaultFault as fault:
            if fault.reason is not Reason.UNKNOWN_KEY:
                raise
            await self._ask(key, "POST", f"{key.key}/create", _order(key))
            found = await self._read(key)
        _check_ours(found.tags)
        return found.description

    async def _destroy(self, key: KeyUri) -> Destruction:
        try:
            _check_ours((await self._read(key)).tags)
            await self._ask(key, "DELETE", key.key)
            was_there = True
        except VaultFault as fault:
            if fault.reason is not Reason.UNKNOWN_KEY:
                raise
            was_there = False
        return await self._purge(key, was_there)

    async def _purge(self, key: KeyUri, was_there: bool) -> Destruction:
        try:
            found = await self._ask(key, "GET", deleted(key))
        except VaultFault as fault:
            if fault.reason is not Reason.UNKNOWN_KEY:
                raise
            if was_there:  # a moment ago
                raise VaultFault(Reason.NOT_NOW) from None
            return Destruction()
        _check_ours(read_tags(found))
        attributes = found.get("attributes")
        if not isinstance(attributes, dict) or not is_purgeable(attributes.get("recoveryLevel")):
            return _at_its_end(found)
        try:
            await self._remove(key)
        except VaultFault as fault:
            if fault.reason is Reason.FORBIDDEN:
                return _at_its_end(found)
            raise VaultFault(Reason.NOT_NOW, fault.raw) if fault.reason in _UNDER_WAY else fault from None
        return Destruction()

    async def _remove(self, key: KeyUri) -> None:
        """Purge a key; the one success that has no document."""
        answer = await self._client(key).ask("DELETE", deleted(key))
        if answer.status != 204 and not answer.found:
            raise VaultFault(Reason.UNKNOWN, answer.raw)


def _order(key: KeyUri) -> dict[str, Any]:
    cloud = cloud_of(key.vault)
    kind = "RSA-HSM" if cloud is not None and cloud.hsm else "RSA"
    return {"kty": kind, "key_size": _BITS, "key_ops": _OPERATIONS, "tags": {_TAG: _PURPOSE}}


def _check_ours(tags: dict[str, str]) -> None:
    if tags.get(_TAG) != _PURPOSE:
        raise VaultFault(Reason.NOT_OURS)


def _at_its_end(found: dict[str, Any]) -> Destruction:
    """Say when a vault that is protected will let go of a key."""
    ends = read_time(found.get("scheduledPurgeDate"))
    if ends is None:
        raise VaultFault(Reason.UNKNOWN, "no date of its end")
    return Destruction(ends)
