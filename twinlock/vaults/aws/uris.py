"""Key URIs that are ARNs: `arn:aws:kms:REGION:ACCOUNT:key/ID`, and for our own availability keys an alias in its place.

An account and a region are the vault. A root key's alias is refused: it can be made to point at another key.
"""

import re
from dataclasses import dataclass

from twinlock.vaults.administration import BadKeyUri
from twinlock.vaults.uris import shown

SCHEME = "arn"

_KEY, _ALIAS = "key/", "alias/"
_HINT = "a key in AWS KMS looks like arn:aws:kms:REGION:ACCOUNT:key/ID"
_ALIAS_HINT = "name the key itself, by the ARN that aws kms describe-key shows: an alias can be made to point elsewhere"
_OWN_HINT = "an availability key in AWS KMS is named by an alias: arn:aws:kms:REGION:ACCOUNT:alias/NAME"
_VAULT = re.compile(r"arn:(aws(?:-[a-z]{1,12}){0,3}):kms:([a-z]{2,4}(?:-[a-z]{1,12}){1,3}-[0-9]{1,2}):([0-9]{12})")
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|mrk-[0-9a-f]{32}")
_ALIAS_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9/_-]{0,200}")
_OF_AMAZON = "aws/"


@dataclass(frozen=True, slots=True)
class KmsUri:
    """Hold the parts of an ARN; `str` gives the canonical text."""

    partition: str
    region: str
    account: str
    resource: str  # `key/ID`, or of an availability key `alias/NAME`

    def __str__(self) -> str:
        return f"{self.vault_uri}:{self.resource}"

    @property
    def vault_uri(self) -> str:
        """Name the account and region apart from every other vault."""
        return f"{SCHEME}:{self.partition}:kms:{self.region}:{self.account}"

    @property
    def alias(self) -> str:
        """Return the alias as its administration names it, `alias/NAME`; empty for a key's own ARN."""
        return self.resource if self.resource.startswith(_ALIAS) else ""


def parse_key_arn(uri: str) -> KmsUri:
    """Split the ARN of a key into its parts, or raise BadKeyUri."""
    found = _split(uri, _HINT)
    if found.resource.startswith(_ALIAS):
        raise BadKeyUri(f"{shown(uri)} is an alias", hint=_ALIAS_HINT)
    if not found.resource.startswith(_KEY) or not _ID.fullmatch(found.resource.removeprefix(_KEY)):
        lower = uri.lower()
        good = lower != uri and _ID.fullmatch(lower.rpartition("/")[2])
        raise BadKeyUri(f"{shown(uri)} does not name one key", hint=f"write {shown(lower)}" if good else _HINT)
    return found


def parse_alias_arn(uri: str) -> KmsUri:
    """Split the ARN of an alias of ours into its parts, or raise BadKeyUri."""
    found = _split(uri, _OWN_HINT)
    name = found.resource.removeprefix(_ALIAS)
    if not found.alias or not _ALIAS_NAME.fullmatch(name) or name.startswith(_OF_AMAZON):
        raise BadKeyUri(f"{shown(uri)} does not name one availability key", hint=_OWN_HINT)
    return found


def _split(uri: str, hint: str) -> KmsUri:
    vault, _, resource = uri.rpartition(":")
    parts = _VAULT.fullmatch(vault)
    if parts is None:
        raise BadKeyUri(f"{shown(uri)} is not a key in AWS KMS", hint=hint)
    return KmsUri(parts[1], parts[2], parts[3], resource)
