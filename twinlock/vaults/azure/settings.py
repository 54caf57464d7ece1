"""How vaults of Azure are reached: how we log in to each directory, and how long we wait.

A vault says itself which directory (tenant of Entra) it belongs to; we log in there, or nowhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from twinlock.vaults.azure.uris import CLOUDS, is_directory, is_host, parse_azure_uri
from twinlock.vaults.uris import faults_of_key


@dataclass(frozen=True, slots=True)
class AzureDirectory:
    """Hold our login to one directory; a secret is never among the settings, only the file that it lies in.

    `token_file` holds the token of a federated identity, which is exchanged for one of the directory.
    """

    client_id: str = ""
    secret_file: Path | None = None
    certificate_file: Path | None = None
    token_file: Path | None = None
    managed_identity: bool = False

    @property
    def faults(self) -> list[str]:
        """Say what keeps these settings from being a login."""
        files = [each for each in (self.secret_file, self.certificate_file, self.token_file) if each is not None]
        if len(files) + self.managed_identity != 1:
            return ["needs one of secret_file, certificate_file, token_file and managed_identity"]
        return ["has no client_id"] if files and not self.client_id else []


@dataclass(frozen=True, slots=True)
class AzureHost:
    """Hold what is special about a vault whose host is not one of Azure's own: who is trusted, and where we log in."""

    ca_file: Path | None = None
    authority: str = CLOUDS[0].authority


@dataclass(frozen=True, slots=True)
class AzureSettings:
    """Hold the settings of all vaults; directories stand under their ids, times are in seconds.

    `deadline` bounds one attempt with all that belongs to it, and is best kept below the custodian's own.
    """

    deadline: float = 3.0
    connections: int = 16  # to each vault at the same time
    canary: str | None = None  # a key of our own: it tells whose act it was that another one is refused
    directories: Mapping[str, AzureDirectory] = field(default_factory=dict)
    vaults: Mapping[str, AzureHost] = field(default_factory=dict)

    @property
    def faults(self) -> list[str]:
        """Say what is wrong with the names in these settings, and with the logins."""
        return [
            *faults_of_key("canary", self.canary, lambda uri: parse_azure_uri(uri, self.vaults)),
            *(
                f"directories: {each!a} is not the id of a directory"
                for each in self.directories
                if not is_directory(each)
            ),
            *(f"directories: {each} {fault}" for each, own in self.directories.items() for fault in own.faults),
            *(f"vaults: {each!a} is not a host" for each in self.vaults if not is_host(each)),
            *(
                f"vaults: {each} has no host as authority"
                for each, own in self.vaults.items()
                if not is_host(own.authority)
            ),
        ]
