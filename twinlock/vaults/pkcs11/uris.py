"""Key URIs of the form `pkcs11:token=NAME;object=LABEL` (RFC 7512).

The RFC lets one key be written in many ways. Here it has one text: the token's label, then the object's, and every
character escaped but for letters, digits and `-._~`. Another text is refused and never folded, since two keys lie in
two vaults when their texts say so. A token has one label and so is one vault, by whatever library it is reached. The
type is not written: only secret keys are used.
"""

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

from twinlock.vaults.administration import BadKeyUri
from twinlock.vaults.uris import shown

SCHEME = "pkcs11"

_PREFIX = f"{SCHEME}:"
_MOST_CHARACTERS = 400
_MOST_TOKEN_BYTES = 32  # the field has no more
_HINT = "a key on a token looks like pkcs11:token=NAME;object=LABEL"
_KNOWN = ("token", "object", "type")
_TYPE = "secret-key"
_VALUE = re.compile(r"(?:[A-Za-z0-9\-._~:\[\]@!$'()*+,=&/]|%[0-9A-Fa-f]{2})+")


@dataclass(frozen=True, slots=True)
class TokenKey:
    """Hold the labels of a token and of a key on it; `str` gives the canonical text."""

    token: str
    label: str

    def __str__(self) -> str:
        return f"{self.vault_uri};object={quote(self.label, safe='')}"

    @property
    def vault_uri(self) -> str:
        """Name the token apart from every vault of every other scheme."""
        return f"{_PREFIX}token={quote(self.token, safe='')}"


def parse_pkcs11_uri(uri: str) -> TokenKey:
    """Split a URI into the labels of token and object, or raise BadKeyUri."""
    if not uri.startswith(_PREFIX):
        raise BadKeyUri(f"{shown(uri)} is not a key on a token", hint=_HINT)
    path, asks, _ = uri.removeprefix(_PREFIX).partition("?")
    if asks or without_others(uri) != uri:
        # The text is not shown: it may hold a PIN, which people write on either side of the question mark.
        detail = "a key's URI may hold no PIN, no module, and nothing but its token and its object"
        raise BadKeyUri(detail, hint=f"{_HINT}: all else is set in pkcs11.tokens")
    if len(uri) > _MOST_CHARACTERS:
        raise BadKeyUri(f"{shown(uri)} is too long", hint=_HINT)
    found = _attributes(uri, path)
    if found.get("type", _TYPE) != _TYPE:
        raise BadKeyUri(f"{shown(uri)} is not a secret key", hint=_HINT)
    if "token" not in found or "object" not in found:
        raise BadKeyUri(f"{shown(uri)} does not name one key on one token", hint=_HINT)
    key = TokenKey(check_token(found["token"]), found["object"])
    if str(key) != uri:
        raise BadKeyUri(f"{shown(uri)} can be written in one way only", hint=f"write {key}")
    return key


def without_others(uri: str) -> str:
    """Return a URI without whatever else than token and object stands in it, for it may be a secret."""
    path, _, _ = uri.removeprefix(_PREFIX).partition("?")
    return _PREFIX + ";".join(part for part in path.split(";") if part.partition("=")[0] in _KNOWN)


def check_token(name: str) -> str:
    """Return what can be the label of a token, or raise BadKeyUri."""
    if not _is_label(name) or len(name.encode()) > _MOST_TOKEN_BYTES:
        raise BadKeyUri(f"{shown(name)} can't be the label of a token", hint="labels have at most 32 bytes")
    return name


def _attributes(uri: str, path: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in path.split(";"):
        name, _, value = part.partition("=")
        if name in found or not _VALUE.fullmatch(value):
            raise BadKeyUri(f"{shown(uri)} does not name one key on one token", hint=_HINT)
        found[name] = _label(uri, value)
    return found


def _label(uri: str, value: str) -> str:
    try:
        label = unquote_to_bytes(value).decode()
    except UnicodeDecodeError:
        label = ""
    if not _is_label(label):
        raise BadKeyUri(
            f"{shown(uri)} holds a label that is no text", hint="labels are UTF-8, without blanks at an end"
        )
    return label


def _is_label(label: str) -> bool:
    # A token's label is padded with blanks: two that differ by those alone would be one.
    return bool(label) and label.isprintable() and label == label.strip()
