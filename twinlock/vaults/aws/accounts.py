"""One account in one region: who we are there, and asking its KMS as that."""

from functools import partial
from pathlib import Path
from typing import Any

from twinlock.keys.ports import Clock
from twinlock.vaults.aws.client import Client, Place
from twinlock.vaults.aws.identity import AssumedRole, Identity, OwnIdentity
from twinlock.vaults.aws.reasons import Reason, VaultFault
from twinlock.vaults.aws.rules import reason_of, reason_of_login
from twinlock.vaults.aws.settings import AwsAccount, AwsSettings
from twinlock.vaults.aws.uris import KmsUri
from twinlock.vaults.network import SHARE

# A session that was ended looks like this, so that another one is worth a try.
_SESSION = (Reason.SESSION_OVER, Reason.FORBIDDEN, Reason.FORBIDDEN_TO_US, Reason.FORBIDDEN_UNSAID)


class Attempt:
    """Hold the refusal that was heard last: where time runs out afterwards, the vault was not silent (law 5)."""

    def __init__(self) -> None:
        self.refusal: VaultFault | None = None


class Account:
    """Hold the client of one account's KMS in one region, and our identity there."""

    def __init__(self, key: KmsUri, own: AwsAccount, settings: AwsSettings, us: OwnIdentity, clock: Clock) -> None:
        self._clients: list[Client] = []
        self._identity: Identity = us
        if own.role_arn:
            place = Place("sts", key.region, own.sts_endpoint)
            self._clients.append(Client(place, us, reason_of_login, settings))
            assume = partial(self._clients[0].ask, "assume_role", **_role(own, settings))
            self._identity = AssumedRole(assume, settings.session_seconds, settings.deadline * SHARE, clock)
        judge = partial(reason_of, role_is_theirs=own.owns_role(key.account))
        self._kms = Client(Place("kms", key.region, own.endpoint), self._identity, judge, settings)
        self._clients.append(self._kms)

    async def ask(self, attempt: Attempt, operation: str, **parameters: Any) -> dict[str, Any]:
        """Return the answer to one request; where our session is refused, a fresh one is tried once."""
        keys = await self._identity.keys()
        try:
            return await self._once(attempt, operation, **parameters)
        except VaultFault as fault:
            if fault.reason not in _SESSION:
                raise
            try:
                another = await self._identity.after_refusal(keys)
            except Exception:
                # That we may not use the key says more than that we may not be who may.
                if fault.reason is Reason.SESSION_OVER:
                    raise
                another = keys
            if another is keys:
                raise
        return await self._once(attempt, operation, **parameters)

    async def close(self) -> None:
        """Close every connection."""
        for client in self._clients:
            await client.close()

    async def _once(self, attempt: Attempt, operation: str, **parameters: Any) -> dict[str, Any]:
        try:
            return await self._kms.ask(operation, **parameters)
        except VaultFault as fault:
            attempt.refusal = fault
            raise


class Accounts:
    """Hold every account that the settings name, opened when it is first asked."""

    def __init__(self, settings: AwsSettings, secrets: Path, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        path = None if settings.credentials_file is None else secrets / settings.credentials_file
        self._us = OwnIdentity(path, settings.profile, settings.deadline * SHARE)
        self._open: dict[str, Account] = {}

    def of(self, key: KmsUri) -> Account:
        """Return the account of a key, or raise a fault."""
        if key.vault_uri not in self._open:
            own = self._settings.account(key.account, key.region)
            if own is None:
                raise VaultFault(Reason.NO_ACCOUNT)
            self._open[key.vault_uri] = Account(key, own, self._settings, self._us, self._clock)
        return self._open[key.vault_uri]

    async def close(self) -> None:
        """Close every connection; a later request opens new ones."""
        accounts, self._open = self._open, {}
        for account in accounts.values():
            await account.close()


def _role(own: AwsAccount, settings: AwsSettings) -> dict[str, Any]:
    wanted = {
        "RoleArn": own.role_arn,
        "RoleSessionName": settings.session_name,
        "DurationSeconds": settings.session_seconds,
    }
    return wanted | ({"ExternalId": own.external_id} if own.external_id else {})
