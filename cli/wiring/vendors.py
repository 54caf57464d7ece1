"""The vendors whose vaults can be used; each adapter is loaded where it is used: its library takes its time."""

from abc import ABC, abstractmethod
from importlib.util import find_spec
from typing import ClassVar, Protocol, runtime_checkable

from cli.settings import Settings
from twinlock.errors import TwinlockError
from twinlock.keys.ports import Clock, DestroyingVault
from twinlock.vaults.administration import BadKeyUri
from twinlock.vaults.aws.uris import SCHEME as ARN
from twinlock.vaults.aws.uris import parse_key_arn
from twinlock.vaults.azure.uris import HTTPS as AZURE
from twinlock.vaults.azure.uris import parse_azure_uri
from twinlock.vaults.directory import Adapter
from twinlock.vaults.openbao.uris import HTTP, HTTPS, parse_bao_uri
from twinlock.vaults.pkcs11.uris import SCHEME as PKCS11
from twinlock.vaults.pkcs11.uris import parse_pkcs11_uri
from twinlock.vaults.software.local import SCHEME as LOCAL
from twinlock.vaults.uris import parse_key_uri, scheme_of, shown


class Remote(Adapter, Protocol):
    """Be an adapter that has connections."""

    async def close(self) -> None:
        """End every connection."""
        ...


@runtime_checkable
class AvailabilityAdapter(Remote, DestroyingVault, Protocol):
    """Be an adapter that also keeps availability keys."""


class Vendor(ABC):
    """Build one vendor's adapter from its part of the settings."""

    name: ClassVar[str]  # of the settings and of the extra that brings its library
    schemes: ClassVar[tuple[str, ...]]  # of its keys' URIs
    hint: ClassVar[str]  # what to set before one of its keys can be used

    @abstractmethod
    def is_set(self, settings: Settings) -> bool:
        """Say whether the settings name one of its vaults."""

    @abstractmethod
    def check(self, uri: str, settings: Settings) -> None:
        """Raise BadKeyUri where a text is no key of this vendor's; no vault is asked, and none need be set up."""

    @abstractmethod
    def build(self, settings: Settings, clock: Clock) -> Remote:
        """Return the adapter; its library may be missing."""

    def canary(self, settings: Settings) -> str | None:
        """Return the URI of our own key that tells whose act a refusal was, if there is one."""
        return None

    def availability(self, settings: Settings, clock: Clock, vault: Remote) -> AvailabilityAdapter | None:
        """Return what keeps availability keys: by default the adapter itself, where it can."""
        return vault if isinstance(vault, AvailabilityAdapter) else None

    def load(self, settings: Settings, clock: Clock) -> Remote:
        """Return the adapter, or raise a `TwinlockError` that says what to install."""
        try:
            return self.build(settings, clock)
        except ModuleNotFoundError as missing:
            raise TwinlockError(
                f"the settings of {self.name} need {missing.name}, which is not installed",
                hint=f"install it with: pip install 'twinlock[{self.name}]'",
            ) from None


class OpenBao(Vendor):
    """Reach servers of OpenBao and of HashiCorp Vault."""

    name = "openbao"
    schemes = (HTTPS, HTTP)
    hint = "name its server and our login in openbao.servers"

    def is_set(self, settings: Settings) -> bool:
        """Say whether a server is named."""
        return bool(settings.openbao.servers)

    def check(self, uri: str, settings: Settings) -> None:
        """Raise BadKeyUri where a text is no key on a server."""
        parse_bao_uri(uri, settings.openbao.allow_http)

    def build(self, settings: Settings, clock: Clock) -> Remote:
        """Return the adapter for every server."""
        from twinlock.vaults.openbao.vault import OpenBaoVault

        return OpenBaoVault(settings.openbao, settings.secrets_folder, clock)

    def availability(self, settings: Settings, clock: Clock, vault: Remote) -> AvailabilityAdapter | None:
        """Return an adapter of its own: to make and to destroy keys is nothing that customers' servers are asked."""
        from twinlock.vaults.openbao.availability import OpenBaoAvailabilityVault

        return OpenBaoAvailabilityVault(settings.openbao, settings.secrets_folder, clock)


class Aws(Vendor):
    """Reach accounts at AWS KMS."""

    name = "aws"
    schemes = (ARN,)
    hint = "name its account in aws.accounts"

    def is_set(self, settings: Settings) -> bool:
        """Say whether an account is named."""
        return bool(settings.aws.accounts)

    def check(self, uri: str, settings: Settings) -> None:
        """Raise BadKeyUri where a text is no key of an account."""
        parse_key_arn(uri)

    def build(self, settings: Settings, clock: Clock) -> Remote:
        """Return the adapter for every account."""
        from twinlock.vaults.aws.vault import KmsVault

        return KmsVault(settings.aws, settings.secrets_folder, clock)

    def canary(self, settings: Settings) -> str | None:
        """Return our own key, for which our identity is good."""
        return settings.aws.canary

    def availability(self, settings: Settings, clock: Clock, vault: Remote) -> AvailabilityAdapter | None:
        """Return an adapter of its own: availability keys are aliases, which no root key may be."""
        from twinlock.vaults.aws.availability import KmsAvailability

        return KmsAvailability(settings.aws, settings.secrets_folder, clock)


class Azure(Vendor):
    """Reach vaults of Azure, Key Vault and Managed HSM."""

    name = "azure"
    schemes = (AZURE,)
    hint = "name our login to its directory in azure.directories"

    def is_set(self, settings: Settings) -> bool:
        """Say whether we can log in to a directory."""
        return bool(settings.azure.directories)

    def check(self, uri: str, settings: Settings) -> None:
        """Raise BadKeyUri where a text is no key in a vault of Azure."""
        parse_azure_uri(uri, settings.azure.vaults)

    def build(self, settings: Settings, clock: Clock) -> Remote:
        """Return the adapter for every vault."""
        from twinlock.vaults.azure.vault import AzureVault

        return AzureVault(settings.azure, settings.secrets_folder)

    def canary(self, settings: Settings) -> str | None:
        """Return our own key, for which our application is good."""
        return settings.azure.canary

    def availability(self, settings: Settings, clock: Clock, vault: Remote) -> AvailabilityAdapter | None:
        """Return an adapter of its own: whoever reaches root keys can neither make nor destroy a key."""
        from twinlock.vaults.azure.availability import AzureAvailabilityVault

        return AzureAvailabilityVault(settings.azure, settings.secrets_folder)


class Pkcs11(Vendor):
    """Reach tokens through the libraries of their vendors."""

    name = "pkcs11"
    schemes = (PKCS11,)
    hint = "name its token, library and PIN file in pkcs11.tokens"

    def is_set(self, settings: Settings) -> bool:
        """Say whether a token is named."""
        return bool(settings.pkcs11.tokens)

    def check(self, uri: str, settings: Settings) -> None:
        """Raise BadKeyUri where a text is no key on a token."""
        parse_pkcs11_uri(uri)

    def build(self, settings: Settings, clock: Clock) -> Remote:
        """Return the adapter for every token; each loads the library in a process of its own."""
        from twinlock.vaults.pkcs11.vault import Pkcs11Vault

        if find_spec("pkcs11") is None:
            raise ModuleNotFoundError("no python-pkcs11", name="pkcs11")
        return Pkcs11Vault(settings.pkcs11, settings.secrets_folder, clock)


VENDORS: tuple[Vendor, ...] = (OpenBao(), Aws(), Azure(), Pkcs11())


def check_key(uri: str, settings: Settings) -> None:
    """Raise BadKeyUri where a text is no root key of any kind of vault."""
    scheme = scheme_of(uri)
    for vendor in VENDORS:
        if scheme in vendor.schemes:
            vendor.check(uri, settings)
            return
    if scheme != LOCAL:
        known = ", ".join(f"{each}:" for each in sorted({LOCAL, *(name for v in VENDORS for name in v.schemes)}))
        raise BadKeyUri(f"{shown(uri)} is no key of a kind that is known here", hint=f"known kinds of key: {known}")
    parse_key_uri(uri, LOCAL)
