"""Key URIs of the form `https://NAME.vault.azure.net/keys/KEY`: a key's own identifier, without a version.

A tenant names the host, so only hosts of Azure's own vaults are ever asked, and those that the settings name. Azure
takes capitals for small letters in hosts and in keys: both are folded, so that one key has one text.
"""

import re
from collections.abc import Container
from dataclasses import dataclass

from twinlock.vaults.administration import BadKeyUri
from twinlock.vaults.uris import KeyUri, shown

HTTPS = "https"

_PREFIX, _KEYS = "https://", "keys"
_HINT = "a key in Azure looks like https://NAME.vault.azure.net/keys/KEY"
_NAME = re.compile(r"[a-z](?:[a-z0-9]|-(?!-)){1,22}[a-z0-9]")
_KEY = re.compile(r"[a-z0-9-]{1,127}")
_VERSION = re.compile(r"[0-9a-f]{32}")
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*(?::[1-9][0-9]{{0,4}})?")
_GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Cloud:
    """Hold what the suffix of a vault's host tells: where we log in, and to what."""

    suffix: str
    authority: str
    hsm: bool = False

    @property
    def scope(self) -> str:
        """Return what a token for these vaults is asked for."""
        return f"https://{self.suffix}/.default"


CLOUDS = (
    Cloud("vault.azure.net", "login.microsoftonline.com"),
    Cloud("managedhsm.azure.net", "login.microsoftonline.com", hsm=True),
    Cloud("vault.azure.cn", "login.chinacloudapi.cn"),
    Cloud("managedhsm.azure.cn", "login.chinacloudapi.cn", hsm=True),
    Cloud("vault.usgovcloudapi.net", "login.microsoftonline.us"),
    Cloud("managedhsm.usgovcloudapi.net", "login.microsoftonline.us", hsm=True),
)


def cloud_of(host: str) -> Cloud | None:
    """Return the cloud that a vault's host is of; None for every other host."""
    name, _, suffix = host.partition(".")
    found = [cloud for cloud in CLOUDS if cloud.suffix == suffix]
    return found[0] if found and _NAME.fullmatch(name) else None


def parse_azure_uri(uri: str, others: Container[str] = ()) -> KeyUri:
    """Split a URI into scheme, host and `keys/KEY`, or raise BadKeyUri; `others` are hosts with a name of their own."""
    if not uri.startswith(_PREFIX):
        raise BadKeyUri(f"{shown(uri)} is not a key in Azure", hint=_HINT)
    host, *path = uri[len(_PREFIX) :].lower().split("/")
    if not uri.isascii() or (host not in others and cloud_of(host) is None):
        raise BadKeyUri(
            f"{shown(uri)} is not in a vault of Azure",
            hint=f"{_HINT}; another host has to be named in azure.vaults",
        )
    if len(path) == 3 and path[0] == _KEYS and _VERSION.fullmatch(path[2]):
        hint = f"leave the version out, the policy keeps it: {_PREFIX}{host}/{_KEYS}/{path[1]}"
        raise BadKeyUri(f"{shown(uri)} names one version of a key", hint=hint)
    if len(path) != 2 or path[0] != _KEYS or not _KEY.fullmatch(path[1]):
        raise BadKeyUri(f"{shown(uri)} does not name one key", hint=_HINT)
    return KeyUri(HTTPS, host, f"{_KEYS}/{path[1]}")


def is_version(text: str) -> bool:
    """Say whether a text can be a version of a key."""
    return _VERSION.fullmatch(text) is not None


def is_host(text: str) -> bool:
    """Say whether a text is a host, with or without a port, in its one form."""
    return len(text) <= 253 and _HOST.fullmatch(text) is not None


def is_directory(text: str) -> bool:
    """Say whether a text is the id of a directory (a tenant of Entra)."""
    return _GUID.fullmatch(text) is not None
