"""Key URIs of the form `SCHEME://VAULT/KEY`.

Names become file names, so the grammar is narrow: no separator, no leading dot, no capital letter (two names that
differ by case alone would be one file on some file systems). Capitals are refused, never folded: what a person typed is
what is stored.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from twinlock.vaults.administration import BadKeyUri

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{0,31}")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_RULE = "names are 1 to 63 of a-z, 0-9, dot, dash and underscore, and begin with a letter or a digit"


@dataclass(frozen=True, slots=True)
class KeyUri:
    """Hold the parts of a key's URI; `str` gives the canonical text."""

    scheme: str
    vault: str
    key: str

    def __str__(self) -> str:
        return f"{self.vault_uri}/{self.key}"

    @property
    def vault_uri(self) -> str:
        """Name the vault apart from every vault of every other scheme."""
        return f"{self.scheme}://{self.vault}"


def scheme_of(uri: str) -> str:
    """Return what stands before the first colon; BadKeyUri if that is no scheme."""
    scheme, separator, _ = uri.partition(":")
    if not separator or not _SCHEME.fullmatch(scheme):
        raise BadKeyUri(f"{shown(uri)} is not a key URI", hint="a key URI looks like local://VAULT/KEY")
    return scheme


def parse_key_uri(uri: str, scheme: str | None = None) -> KeyUri:
    """Split a URI, of one scheme or of any; BadKeyUri if it is not exactly `SCHEME://VAULT/KEY`."""
    found = scheme_of(uri)
    if not uri.startswith(f"{scheme or found}://"):
        hint = f"a key of this vault looks like {scheme or found}://VAULT/KEY"
        raise BadKeyUri(f"{shown(uri)} is not a {scheme or found} key", hint=hint)
    parts = uri[len(found) + 3 :].split("/")
    if len(parts) != 2:
        raise BadKeyUri(f"{shown(uri)} does not name one key", hint=f"a key URI looks like {found}://VAULT/KEY")
    return KeyUri(found, check_name(parts[0], "vault"), check_name(parts[1], "key"))


def faults_of_key(name: str, uri: str | None, parse: Callable[[str], object]) -> list[str]:
    """Say what is wrong with a setting that names a key, or nothing."""
    try:
        if uri is not None:
            parse(uri)
    except BadKeyUri as fault:
        return [f"{name}: {fault.detail}; {fault.hint}"]
    return []


def check_name(name: str, what: str) -> str:
    """Return a name that is safe as a file name, or raise BadKeyUri."""
    if _NAME.fullmatch(name):
        return name
    hint = f"{_RULE}: did you mean {name.lower()}?" if _NAME.fullmatch(name.lower()) else _RULE
    raise BadKeyUri(f"{shown(name)} is not the name of a {what}", hint=hint)


def shown(text: str) -> str:
    """Quote foreign text for a message: bounded, and without characters that could steer a terminal."""
    return ascii(text if len(text) <= 100 else text[:97] + "...")
