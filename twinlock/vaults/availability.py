"""Where the provider's availability keys are: in the vault that the URI of each names.

The settings say where new ones are made. Those that were made before a change of the settings stay where they are, and
are still found there.
"""

from collections.abc import Mapping

from twinlock.keys.ports import DestroyingVault, Destruction, KeyDescription, Misconfigured, WrappedKey
from twinlock.vaults.administration import BadKeyUri
from twinlock.vaults.uris import scheme_of, shown

CLASSIFIER = "availability/1"


class AvailabilityVaults:
    """Implement `DestroyingVault` over those of several vendors, by the scheme of a key's URI."""

    def __init__(self, vaults: Mapping[str, DestroyingVault]) -> None:
        self._vaults = dict(vaults)

    async def describe(self, uri: str, version: str | None = None) -> KeyDescription:
        """Describe one version of a key (default: the newest)."""
        return await self._of(uri).describe(uri, version)

    async def wrap(self, uri: str, payload: bytes, context: bytes) -> WrappedKey:
        """Wrap 64 bytes under the newest version of a key."""
        return await self._of(uri).wrap(uri, payload, context)

    async def unwrap(self, wrapped: WrappedKey, context: bytes) -> bytes:
        """Return the 64 bytes."""
        return await self._of(wrapped.uri).unwrap(wrapped, context)

    async def create(self, uri: str) -> KeyDescription:
        """Make a key, or find the one that a repeat of the same request made before."""
        return await self._of(uri).create(uri)

    async def destroy(self, uri: str) -> Destruction:
        """Destroy a key."""
        return await self._of(uri).destroy(uri)

    def _of(self, uri: str) -> DestroyingVault:
        try:
            return self._vaults[scheme_of(uri)]
        except BadKeyUri as fault:
            raise Misconfigured(fault.detail, uri=uri, raw="bad-uri", classifier=CLASSIFIER) from None
        except KeyError:
            detail = f"no vault that keeps availability keys is set up for {shown(uri)}"
            raise Misconfigured(detail, uri=uri, raw="no-vault", classifier=CLASSIFIER) from None
