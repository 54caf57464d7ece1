"""AWS KMS for the provider's availability keys: `arn:aws:kms:REGION:ACCOUNT:alias/NAME`, in an account of its own.

KMS chooses the id of a key, so that the name is an alias, which nobody else may be allowed to change or delete. The
key's description names it as well, and a key that is described otherwise is never used or destroyed as one of these. A
destroyed key can be brought back for a week, the least that KMS allows. After that KMS forgets it together with its
alias, and a key that is made under the name then is another one.
"""

from datetime import datetime
from pathlib import Path

from twinlock.keys.ports import Clock, Destruction, KeyDescription, Unavailable, Unclear
from twinlock.vaults.aws.accounts import Attempt
from twinlock.vaults.aws.answers import ALGORITHM, USAGE, KmsKey, read_deletion, read_key
from twinlock.vaults.aws.reasons import VERDICTS, Reason, VaultFault
from twinlock.vaults.aws.settings import AwsSettings
from twinlock.vaults.aws.uris import KmsUri, parse_alias_arn
from twinlock.vaults.aws.vault import KmsVault

_LEAST_DAYS = 7


class KmsAvailability(KmsVault):
    """Implement `DestroyingVault` beside `Vault`."""

    def __init__(self, settings: AwsSettings, secrets: Path, clock: Clock) -> None:
        super().__init__(settings, secrets, clock)
        self._made: dict[str, str] = {}  # a new alias takes some minutes until every server knows it

    def locate(self, uri: str) -> KmsUri:
        """Split a URI into its parts, or raise BadKeyUri."""
        return parse_alias_arn(uri)

    async def create(self, uri: str) -> KeyDescription:
        """Make a key, or find the one that a repeat of the same request made before."""
        return await self._answer(uri, lambda attempt: self._create(attempt, uri))

    async def destroy(self, uri: str) -> Destruction:
        """Have a key deleted as soon as KMS allows; asked again, it says when that is, and then that it is done."""
        return await self._answer(uri, lambda attempt: self._destroy(attempt, uri))

    async def _create(self, attempt: Attempt, uri: str) -> KeyDescription:
        key = self.locate(uri)
        found = await self._found(attempt, key)
        return (found or await self._new(attempt, key)).description

    async def _new(self, attempt: Attempt, key: KmsUri) -> KmsKey:
        account = self._accounts.of(key)
        asked = {"KeySpec": ALGORITHM, "KeyUsage": USAGE, "Description": _marker(key)}
        made = read_key(key, await account.ask(attempt, "create_key", **asked), _marker(key))
        try:
            await account.ask(attempt, "create_alias", AliasName=key.alias, TargetKeyId=made.arn)
        except VaultFault as fault:
            if VERDICTS[fault.reason].kind in (Unavailable, Unclear):
                raise  # the alias may be made all the same, and must not lead to a key that is deleted
            await account.ask(attempt, "schedule_key_deletion", KeyId=made.arn, PendingWindowInDays=_LEAST_DAYS)
            if fault.reason is not Reason.ALIAS_TAKEN:
                raise
            return await self._look(attempt, key)  # another process was faster
        self._made[str(key)] = made.arn
        return made

    async def _destroy(self, attempt: Attempt, uri: str) -> Destruction:
        key = self.locate(uri)
        found = await self._found(attempt, key)
        if found is None:
            return Destruction()
        deletion = found.deletion if found.is_deleted else await self._schedule(attempt, key, found)
        if deletion is None:
            raise VaultFault(Reason.UNKNOWN, "no date of deletion")
        return Destruction(deletion)

    async def _schedule(self, attempt: Attempt, key: KmsUri, found: KmsKey) -> datetime | None:
        asked = {"KeyId": found.arn, "PendingWindowInDays": _LEAST_DAYS}
        try:
            return read_deletion(await self._accounts.of(key).ask(attempt, "schedule_key_deletion", **asked))
        except VaultFault as fault:
            if fault.reason is not Reason.DELETED:
                raise
        return (await self._look(attempt, key)).deletion  # another process was faster

    async def _found(self, attempt: Attempt, key: KmsUri) -> KmsKey | None:
        try:
            return await self._look(attempt, key)
        except VaultFault as fault:
            if fault.reason is not Reason.UNKNOWN_KEY:
                raise
        attempt.refusal = None  # that there is none is an answer
        return None

    async def _look(self, attempt: Attempt, key: KmsUri) -> KmsKey:
        answer = await self._accounts.of(key).ask(attempt, "describe_key", KeyId=self._target(key))
        found = read_key(key, answer, _marker(key))
        if not found.is_ours:
            raise VaultFault(Reason.ALIAS_TAKEN)
        return found

    def _target(self, key: KmsUri) -> str:
        return self._made.get(str(key), str(key))


def _marker(key: KmsUri) -> str:
    return f"Twinlock availability key {key}"
