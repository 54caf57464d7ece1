"""What the core asks of a vault, and the five ways in which a vault can fail.

    VaultFailure
    |-- Unavailable     the vault did not answer, or said it can't now
    |-- Denied          an explicit act of the customer, deliberate or not
    |-- Unclear         it can't be told yet whose act it was
    |-- Misconfigured   our own credential, address or setup is wrong
    `-- Corrupt         the vault answered, and the bytes do not decrypt or do not match

An adapter turns every failure into one of the five, in one function, and lets nothing else escape but cancellation.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol, runtime_checkable


class Outcome(StrEnum):
    """What asking a root key came to: good, or one of the five classes of failure."""

    OK = "ok"
    UNAVAILABLE = "unavailable"
    DENIED = "denied"
    UNCLEAR = "unclear"
    MISCONFIGURED = "misconfigured"
    CORRUPT = "corrupt"


class VaultFailure(Exception):
    """Carry one classified failure of a vault, with what the vault really said.

    `detail` is for people and never holds key material; `raw` is the vendor's status and code; `classifier` names the
    version of the rules that judged it, so that a verdict can be replayed when the rules change.
    """

    outcome: Outcome

    def __init__(
        self,
        detail: str,
        *,
        uri: str,
        raw: str = "",
        request_id: str = "",
        classifier: str,
        exact: bool = False,
        counts: bool = False,
        of_permission: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.uri = uri
        self.raw = raw
        self.request_id = request_id
        self.classifier = classifier
        self.exact = exact  # an exact code: one answer is enough to evict
        self.counts = counts  # evidence for the availability key (law 5); only `Unavailable` ever sets it
        self.of_permission = of_permission  # we may not: a canary can tell whose act that was
        self.retry_after = retry_after  # seconds for which the vault asks us to leave it alone


class Unavailable(VaultFailure):
    """Say that the vault did not answer; it says nothing about the customer's intent."""

    outcome = Outcome.UNAVAILABLE


class Denied(VaultFailure):
    """Say that the customer took the key away: disabled, deleted, version disabled, permission removed."""

    outcome = Outcome.DENIED


class Unclear(VaultFailure):
    """Say that nobody can tell yet whose act it was."""

    outcome = Outcome.UNCLEAR


class Misconfigured(VaultFailure):
    """Say that our own credential, address or setup is wrong."""

    outcome = Outcome.MISCONFIGURED


class Corrupt(VaultFailure):
    """Say that the vault answered and the bytes do not decrypt or do not match the commitment."""

    outcome = Outcome.CORRUPT


@dataclass(frozen=True, slots=True)
class KeyDescription:
    """Describe one version of a key in a vault.

    `identity` is new when a key is made again under the same name; `fingerprint` belongs to this version alone. Both
    are pinned by a policy (law 1). An identity is stable over versions. But where a vendor names versions only, each
    has its own, and `identities` holds those of all versions that this key still has, as far as the vendor tells.
    """

    uri: str
    version: str
    identity: str
    fingerprint: str
    algorithm: str
    enabled: bool
    expires: datetime | None
    recoverable: bool
    identities: tuple[str, ...] = field(default=(), compare=False)

    def is_key(self, identity: str) -> bool:
        """Say whether an identity, of whatever version, is this key's."""
        return identity == self.identity or identity in self.identities


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """Hold what a vault made of 64 secret bytes: which key, which version of it, and its opaque answer."""

    uri: str
    version: str
    identity: str
    ciphertext: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Destruction:
    """Say whether a destroyed key is gone for good, or when it will be: until then its vault could bring it back."""

    final_at: datetime | None = None

    @property
    def is_final(self) -> bool:
        """Say whether nobody can bring the key back any more."""
        return self.final_at is None


class Vault(Protocol):
    """Wrap and unwrap 64 bytes (key || SHA-256(context)) under keys that never leave the vault.

    Every method raises a `VaultFailure` and nothing else; the caller sets the deadline with `asyncio.timeout`, and a
    cancelled call leaves no task and no connection behind. `context` goes to vaults that have associated data.
    """

    async def describe(self, uri: str, version: str | None = None) -> KeyDescription:
        """Describe one version of a key (default: the newest); a disabled or expired key is described, not refused."""
        ...

    async def wrap(self, uri: str, payload: bytes, context: bytes) -> WrappedKey:
        """Wrap 64 bytes under the newest enabled version of a key."""
        ...

    async def unwrap(self, wrapped: WrappedKey, context: bytes) -> bytes:
        """Return the 64 bytes; `Denied` where they do not decrypt because the key is no longer the one that wrapped."""
        ...


class AvailabilityVault(Vault, Protocol):
    """Keep the provider's availability keys: AES-256 keys that the provider itself makes and destroys."""

    async def create(self, uri: str) -> KeyDescription:
        """Make a key, or find the one that a repeat of the same request made before."""
        ...


@runtime_checkable
class DestroyingVault(AvailabilityVault, Protocol):
    """Also destroy availability keys: for `recovery_handler` alone."""

    async def destroy(self, uri: str) -> Destruction:
        """Destroy a key: nothing uses it any more. Asked again, also of one that is gone, it says how far that is."""
        ...


class Clock(Protocol):
    """Tell time: injected, so that tests move it."""

    def now(self) -> datetime:
        """Return the wall clock, in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds on a clock that never goes back and counts suspended time."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait that long on this clock."""
        ...
