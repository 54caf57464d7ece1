"""The canonical encoding of what is encrypted and where it belongs.

    lp(label) || lp(kind) || for every field, in order: lp(name) || lp(type || value)

lp is a two-byte big-endian length and that many bytes. A value is 's' and UTF-8, or 'i' and eight big-endian bytes.
Every part carries its length, so two different contexts never encode alike.
"""

from dataclasses import dataclass, field
from functools import cache
from typing import ClassVar

LABEL = b"twinlock.context.v1"
MAX_STRING_BYTES = 512  # room for any identifier or address, far below the two-byte length
MAX_INT = 2**63 - 1  # what the database can hold
SLOTS = frozenset({"a", "b", "availability"})


@dataclass(frozen=True, slots=True)
class Context:
    """Say what something is and where it belongs; made once, encoded once, valid or not made at all."""

    kind: ClassVar[str]
    _encoded: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # __match_args__ are the fields of the constructor, in order
        parts = [_header(self.kind)]
        for name, prefix in _plan(type(self).__match_args__):
            parts += prefix, _prefixed(_value(name, getattr(self, name)))
        object.__setattr__(self, "_encoded", b"".join(parts))

    def encode(self) -> bytes:
        """Return the canonical bytes."""
        return self._encoded


@dataclass(frozen=True, slots=True)
class PolicyKeyContext(Context):
    """Place a policy key generation in one of the three slots that wrap it."""

    kind: ClassVar[str] = "policy-key"
    tenant: str
    policy: str
    generation: int
    slot: str

    def __post_init__(self) -> None:
        if self.slot not in SLOTS:
            raise ValueError(f"slot must be one of {', '.join(sorted(SLOTS))}")
        Context.__post_init__(self)


@dataclass(frozen=True, slots=True)
class ContainerKeyContext(Context):
    """Place a container key generation under the policy key generation that wraps it."""

    kind: ClassVar[str] = "container-key"
    tenant: str
    policy: str
    policy_key_generation: int
    container: str
    generation: int


@dataclass(frozen=True, slots=True)
class ItemContext(Context):
    """Place an item's content in a container; no policy and no path, so that a rewrap or a rename moves nothing."""

    kind: ClassVar[str] = "item"
    tenant: str
    container: str
    generation: int
    item: str
    version: int


@dataclass(frozen=True, slots=True)
class BlobContext(Context):
    """Place a file's blob in a site; no policy and no path, so that a rewrap or a rename moves nothing."""

    kind: ClassVar[str] = "blob"
    tenant: str
    container: str
    generation: int
    file: str
    version: int

    @property
    def of_key(self) -> "BlobKeyContext":
        """Return the place of the key that encrypts this blob."""
        return BlobKeyContext(self.tenant, self.container, self.generation, self.file, self.version)


@dataclass(frozen=True, slots=True)
class BlobKeyContext(Context):
    """Place the key of a file's blob under the site key generation that wraps it."""

    kind: ClassVar[str] = "blob-key"
    tenant: str
    container: str
    generation: int
    file: str
    version: int


@cache
def _header(kind: str) -> bytes:
    return _prefixed(LABEL) + _prefixed(kind.encode())


@cache
def _plan(names: tuple[str, ...]) -> tuple[tuple[str, bytes], ...]:
    return tuple((name, _prefixed(name.encode())) for name in names)


def _prefixed(part: bytes) -> bytes:
    return len(part).to_bytes(2, "big") + part


def _value(name: str, value: object) -> bytes:
    match value:
        case str():
            return b"s" + _string(name, value)
        case int() if not isinstance(value, bool):
            return b"i" + _integer(name, value)
        case _:
            raise TypeError(f"{name} must be a string or an integer, not {type(value).__name__}")


def _string(name: str, value: str) -> bytes:
    encoded = value.encode()
    if not 0 < len(encoded) <= MAX_STRING_BYTES:
        raise ValueError(f"{name} must be 1 to {MAX_STRING_BYTES} bytes long, not {len(encoded)}")
    return encoded


def _integer(name: str, value: int) -> bytes:
    if not 0 <= value <= MAX_INT:
        raise ValueError(f"{name} must be 0 to {MAX_INT}")
    return value.to_bytes(8, "big")
