"""Which adapter serves a key's URI."""

from collections.abc import Mapping
from typing import Protocol

from twinlock.keys.ports import Misconfigured, Vault
from twinlock.vaults.administration import BadKeyUri
from twinlock.vaults.uris import scheme_of, shown

CLASSIFIER = "directory/1"


class Adapter(Vault, Protocol):
    """Be a vault that also knows how its own URIs are written."""

    def locate(self, uri: str) -> object:
        """Split a URI into its parts, whose `str` is the canonical text, or raise BadKeyUri."""
        ...


class VaultDirectory:
    """Map the scheme of a URI to the adapter that serves it; `absent` says how to set up one that is not there."""

    def __init__(self, adapters: Mapping[str, Adapter], absent: Mapping[str, str] | None = None) -> None:
        self._adapters = dict(adapters)
        self._absent = dict(absent or {})

    def of(self, uri: str) -> Vault:
        """Return the vault of a key, or raise Misconfigured, also where its URI is none: nobody counts those."""
        try:
            adapter = self._adapter(uri)
            adapter.locate(uri)
            return adapter
        except BadKeyUri as fault:
            raise Misconfigured(
                f"{fault.detail}; {fault.hint}", uri=uri, raw="bad-uri", classifier=CLASSIFIER
            ) from None

    def canonical(self, uri: str) -> str:
        """Return the one text by which a key is stored and compared, or raise BadKeyUri."""
        return str(self._adapter(uri).locate(uri))

    def _adapter(self, uri: str) -> Adapter:
        scheme = scheme_of(uri)
        if scheme not in self._adapters:
            known = ", ".join(f"{name}:" for name in sorted(self._adapters))
            hint = self._absent.get(scheme, f"known kinds of key: {known}")
            raise BadKeyUri(f"no vault is set up for {shown(uri)}", hint=hint)
        return self._adapters[scheme]
