"""Where a software vault keeps its keys: a port, and the shelf that forgets everything with the process."""

from collections.abc import Callable
from typing import Protocol

from twinlock.vaults.software.reasons import Reason, VaultFault
from twinlock.vaults.software.records import NamedKeys
from twinlock.vaults.uris import KeyUri

Step = Callable[[NamedKeys | None], NamedKeys]


class KeyShelf(Protocol):
    """Keep named keys in vaults; every method may block and may be called from any thread."""

    def read(self, uri: KeyUri) -> NamedKeys | None:
        """Return what the name holds now, None for a name that never was; a fault for an unknown vault."""
        ...

    def change(self, uri: KeyUri, step: Step) -> NamedKeys:
        """Replace what the name holds by what the step makes of it, wholly or not at all, one change at a time.

        The vault is made where it is missing. A step that raises, or returns what it was given, changes nothing.
        """
        ...

    def outage(self, vault: str) -> bool:
        """Say whether a vault was made unreachable."""
        ...

    def set_outage(self, vault: str, on: bool) -> None:
        """Make a vault unreachable or reachable; a fault for an unknown vault."""
        ...

    def delay(self, vault: str) -> float:
        """Return for how many seconds a vault keeps its answers back."""
        ...

    def set_delay(self, vault: str, seconds: float) -> None:
        """Have a vault keep its answers back for so long; a fault for an unknown vault."""
        ...


class MemoryShelf:
    """Keep named keys in this process; its steps never block, so one thread of an event loop needs no lock."""

    def __init__(self) -> None:
        self._vaults: dict[str, dict[KeyUri, NamedKeys]] = {}
        self._outages: set[str] = set()
        self._delays: dict[str, float] = {}

    def read(self, uri: KeyUri) -> NamedKeys | None:
        """Return what the name holds now, None for a name that never was; a fault for an unknown vault."""
        if uri.vault not in self._vaults:
            raise VaultFault(Reason.UNKNOWN_VAULT)
        return self._vaults[uri.vault].get(uri)

    def change(self, uri: KeyUri, step: Step) -> NamedKeys:
        """Replace what the name holds by what the step makes of it; a step that raises changes nothing."""
        named = step(self._vaults.get(uri.vault, {}).get(uri))
        self._vaults.setdefault(uri.vault, {})[uri] = named
        return named

    def outage(self, vault: str) -> bool:
        """Say whether a vault was made unreachable."""
        return vault in self._outages

    def set_outage(self, vault: str, on: bool) -> None:
        """Make a vault unreachable or reachable; a fault for an unknown vault."""
        if vault not in self._vaults:
            raise VaultFault(Reason.UNKNOWN_VAULT)
        (self._outages.add if on else self._outages.discard)(vault)

    def delay(self, vault: str) -> float:
        """Return for how many seconds a vault keeps its answers back."""
        return self._delays.get(vault, 0.0)

    def set_delay(self, vault: str, seconds: float) -> None:
        """Have a vault keep its answers back for so long; a fault for an unknown vault."""
        if vault not in self._vaults:
            raise VaultFault(Reason.UNKNOWN_VAULT)
        self._delays[vault] = seconds
