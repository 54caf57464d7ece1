"""What some vaults let us do besides wrapping: make, disable, delete and rotate keys, and cut the vault off.

An optional ability: check `isinstance(vault, KeyAdministration)`. Its failures are for a person at a terminal, so they
are no vault failures:

    AdministrationError
    |-- BadKeyUri      the text is no key URI (also a ValueError)
    |-- KeyExists      a live key has the name
    |-- NoSuchKey      no key, or no vault, has the name
    |-- WrongKeyState  the key is there, and its state forbids this
    `-- VaultTrouble   the vault's own files can't be read or written
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol, runtime_checkable

from twinlock.errors import TwinlockError
from twinlock.keys.ports import KeyDescription


class AdministrationError(TwinlockError):
    """Say what was refused, and in `hint` how to go on; neither holds key material."""


class BadKeyUri(AdministrationError, ValueError):
    """Say that a text is no key URI."""


class KeyExists(AdministrationError):
    """Say that a live key has the name already."""


class NoSuchKey(AdministrationError):
    """Say that no key, or no vault, has the name."""


class WrongKeyState(AdministrationError):
    """Say that the state of the key forbids what was asked."""


class VaultTrouble(AdministrationError):
    """Say that the vault's own files can't be read or written."""


class KeyStatus(StrEnum):
    """Where a key is in its life; `destroyed` is the end of an availability key alone."""

    ENABLED = "enabled"
    DISABLED = "disabled"
    DELETED = "deleted"
    DESTROYED = "destroyed"


@dataclass(frozen=True, slots=True)
class KeyState:
    """Say where a key is in its life; `version` is the newest one, and empty once the key is destroyed."""

    uri: str
    version: str
    state: KeyStatus
    versions: tuple[str, ...]


@runtime_checkable
class KeyAdministration(Protocol):
    """Look after the root keys of a vault of our own, as its owner would; every method works during an outage.

    Every method raises an `AdministrationError` and nothing else. What is so already is no error: disabling a disabled
    key, deleting a deleted one.
    """

    async def create_root_key(self, uri: str, expires: datetime | None = None) -> KeyDescription:
        """Make a root key with a new identity; `KeyExists` where a live key has the name.

        A soft-deleted key of that name is archived: nothing brings it back.
        """
        ...

    async def disable(self, uri: str) -> KeyState:
        """Refuse all use of a key until `enable`."""
        ...

    async def enable(self, uri: str) -> KeyState:
        """Allow the use of a disabled key again."""
        ...

    async def delete(self, uri: str) -> KeyState:
        """Delete a key softly: `restore` brings it back, disabled if it was."""
        ...

    async def restore(self, uri: str) -> KeyState:
        """Bring back the most recently deleted key of that name; `WrongKeyState` where a live key has it."""
        ...

    async def rotate(self, uri: str) -> KeyState:
        """Add a version, which wraps from now on; the older ones still unwrap."""
        ...

    async def state(self, uri: str) -> KeyState:
        """Say where a key is in its life, also when it is deleted or destroyed."""
        ...

    async def set_outage(self, vault: str, on: bool) -> None:
        """Make a whole vault, named without scheme, unreachable or reachable for everyone who shares it."""
        ...

    async def outage(self, vault: str) -> bool:
        """Say whether a vault, named without scheme, was made unreachable."""
        ...

    async def set_delay(self, vault: str, seconds: float) -> None:
        """Have a whole vault, named without scheme, keep its answers back for so long; 0 ends it."""
        ...
