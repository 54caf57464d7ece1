"""Availability keys in the provider's own OpenBao: AES keys of a Transit engine, which nobody can take out of it.

A key that is destroyed there is gone at once. What a backup of the server's storage holds, the server can't know.
"""

from twinlock.keys.ports import Destruction, KeyDescription
from twinlock.vaults.openbao.reasons import Reason, VaultFault
from twinlock.vaults.openbao.uris import operation_path
from twinlock.vaults.openbao.vault import AES, OpenBaoVault
from twinlock.vaults.uris import KeyUri

_ORDER = {"type": AES, "exportable": False, "allow_plaintext_backup": False}


class OpenBaoAvailabilityVault(OpenBaoVault):
    """Implement `DestroyingVault`; our login has the right to create, configure and delete there as well."""

    async def create(self, uri: str) -> KeyDescription:
        """Make a key, or find the one that a repeat of the same request made before."""
        return await self._answer(uri, lambda: self._create(self.locate(uri)))

    async def destroy(self, uri: str) -> Destruction:
        """Destroy a key: nothing uses it any more. Asked again, also of one that is gone, it says so again."""
        return await self._answer(uri, lambda: self._destroy(self.locate(uri)))

    async def _create(self, key: KeyUri) -> KeyDescription:
        try:
            return await self._ours(key)
        except VaultFault as fault:
            if fault.reason is not Reason.UNKNOWN_KEY:
                raise
        await self._change(key, "POST", operation_path(key, "keys"), _ORDER)
        return await self._ours(key)

    async def _ours(self, key: KeyUri) -> KeyDescription:
        found = await self._read(key)
        if found.type != AES:
            raise VaultFault(Reason.UNKNOWN, f"a key of type {found.type[:32]!a} has the name of ours")
        return found.describe()

    async def _destroy(self, key: KeyUri) -> Destruction:
        path = operation_path(key, "keys")
        try:
            await self._restored(key, path)
            await self._change(key, "POST", f"{path}/config", {"deletion_allowed": True})
            await self._change(key, "DELETE", path)
        except VaultFault as fault:
            if fault.reason is not Reason.UNKNOWN_KEY:
                raise
        return Destruction()

    async def _restored(self, key: KeyUri, path: str) -> None:
        """See that the key is there: one that is deleted softly can't be deleted for good."""
        try:
            await self._read(key)
        except VaultFault as fault:
            if fault.reason is not Reason.DELETED:
                raise
            await self._change(key, "POST", f"{path}/soft-delete-restore")

    async def _change(self, key: KeyUri, method: str, path: str, body: dict[str, object] | None = None) -> None:
        """Ask for a change, of which a success has no document."""
        answer = await self._server(key).ask(method, path, body)
        if answer.fault is not None:
            raise answer.fault
