"""AWS KMS as a subject of the conformance suite: two regions of an account, each behind a proxy that can cut it off."""

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from tests.servers.kms import ACCOUNT, Kms
from tests.servers.proxy import Proxy, proxied
from twinlock.keys.ports import Clock, KeyDescription
from twinlock.vaults.administration import KeyState, KeyStatus
from twinlock.vaults.aws.availability import KmsAvailability
from twinlock.vaults.aws.settings import AwsAccount, AwsSettings
from twinlock.vaults.aws.vault import KmsVault

_REGIONS = ("eu-central-1", "eu-west-1")
_STATES = {"Enabled": KeyStatus.ENABLED, "Disabled": KeyStatus.DISABLED, "PendingDeletion": KeyStatus.DELETED}


class Form(str):
    """Be the form of a key's URI where it takes more than to put names in."""

    def __new__(cls, owner: "KmsOwner") -> "Form":
        """Make the form that an owner's keys have."""
        made = super().__new__(cls, "arn")
        made._owner = owner
        return made

    _owner: "KmsOwner"

    def format(self, *parts: object, **_unused: object) -> str:
        """Name a key by its vault and by what a test calls it."""
        return self._owner.uri(*map(str, parts))


class KmsOwner:
    """Look after the keys of two regions as the account's owner would, past the proxies."""

    def __init__(self, server: Kms, folder: Path) -> None:
        self.vault: KmsVault
        self._server = server
        self._folder = folder
        self._proxies: dict[str, Proxy] = {}
        self.form = Form(self)

    async def open(self, stack: AsyncExitStack, clock: Clock) -> tuple[str, str]:
        """Open the vault under test on both regions; return the names of the two vaults."""
        accounts = {}
        for region in _REGIONS:
            proxy = await stack.enter_async_context(proxied(self._server.port))
            self._proxies[f"arn:aws:kms:{region}:{ACCOUNT}"] = proxy
            accounts[f"{ACCOUNT}/{region}"] = AwsAccount(endpoint=f"http://127.0.0.1:{proxy.port}")
        (self._folder / "us").write_text("[default]\naws_access_key_id = us\naws_secret_access_key = our-secret\n")
        settings = AwsSettings(deadline=60.0, allow_http=True, credentials_file=Path("us"), accounts=accounts)
        self.vault = self._build(settings, clock)
        stack.push_async_callback(self.vault.close)
        first, second = self._proxies
        return first, second

    def _build(self, settings: AwsSettings, clock: Clock) -> KmsVault:
        return KmsVault(settings, self._folder, clock)

    def uri(self, place: str, name: str) -> str:
        """Return the ARN of the key that a test calls so: fresh keys for every test, on a server that lives on."""
        return f"{place}:key/{uuid5(NAMESPACE_URL, f'{self._folder}/{name}')}"

    async def create(self, uri: str) -> KeyDescription:
        """Make a key with the id that its ARN names."""
        self._api(uri, "CreateKey", Description=uri.rpartition("/")[2])
        return await self.vault.describe(uri)

    async def delete(self, uri: str) -> KeyState:
        """Schedule the deletion of a key."""
        self._api(uri, "ScheduleKeyDeletion", KeyId=self._id(uri), PendingWindowInDays=7)
        return await self.state(uri)

    async def restore(self, uri: str) -> KeyState:
        """Cancel the deletion of a key, and enable it."""
        for operation in ("CancelKeyDeletion", "EnableKey"):
            self._api(uri, operation, KeyId=self._id(uri))
        return await self.state(uri)

    async def state(self, uri: str) -> KeyState:
        """Say where a key is in its life."""
        found = self._api(uri, "DescribeKey", KeyId=uri)["KeyMetadata"]
        return KeyState(uri, "1", _STATES[found["KeyState"]], ("1",))

    async def set_outage(self, place: str, on: bool) -> None:
        """Cut a region off, or let it answer again."""
        self._proxies[place].refuses = on
        self._proxies[place].cut()

    async def outage(self, place: str) -> bool:
        """Say whether a region is cut off."""
        return self._proxies[place].refuses

    def _id(self, uri: str) -> str:
        return str(self._api(uri, "DescribeKey", KeyId=uri)["KeyMetadata"]["KeyId"])

    def _api(self, uri: str, operation: str, **parameters: Any) -> Any:
        return self._server.api(uri.split(":")[3], operation, **parameters)


class KmsAvailabilityOwner(KmsOwner):
    """Look after availability keys, which the adapter makes itself, each under an alias."""

    def _build(self, settings: AwsSettings, clock: Clock) -> KmsVault:
        return KmsAvailability(settings, self._folder, clock)

    def uri(self, place: str, name: str) -> str:
        """Return the ARN of the alias that a test calls so."""
        return f"{place}:alias/availability-{uuid5(NAMESPACE_URL, f'{self._folder}/{name}').hex}"

    async def create(self, uri: str) -> KeyDescription:
        """Have the adapter make a key."""
        assert isinstance(self.vault, KmsAvailability)
        return await self.vault.create(uri)
