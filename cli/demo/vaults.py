"""The customer's two vaults, and what a customer does there: here those of the home, in `servers` OpenBao's."""

from collections.abc import Callable
from typing import Any, Protocol


class Stopped(Exception):
    """Say that something did not do what the story needs to go on."""


class Vaults(Protocol):
    """Do in two vaults what their owner does; every act is shown, and one that fails raises `Stopped`."""

    places: tuple[str, str]
    """What stands before the name of a key in each of them."""

    mark: str
    """What every name of a key ends with."""

    can_be_slow: bool
    end: str
    """How the story says that the first one closes."""

    def create(self, uri: str) -> None:
        """Make a key."""

    def rotate(self, uri: str) -> None:
        """Add a version to a key."""

    def disable(self, uri: str) -> None:
        """Let nobody use a key."""

    def enable(self, uri: str) -> None:
        """Let it be used again."""

    def slow_down(self, seconds: int) -> None:
        """Have the first vault answer late; asked only of those that can be slow."""

    def close(self) -> None:
        """Have the first vault answer nobody."""

    def open(self) -> None:
        """Have the first vault answer as before."""


class EmbeddedVaults:
    """Type the commands for embedded vaults, which are the telling's own."""

    mark = ""
    can_be_slow = True
    end = "Then it dies,"

    def __init__(self, mark: str, twinlock: Callable[[str], Any]) -> None:
        self._first = f"vault-1{mark}"
        self.places = (f"local://{self._first}", f"local://vault-2{mark}")
        self._twinlock = twinlock

    def create(self, uri: str) -> None:
        """Make a key."""
        self._twinlock(f"key create {uri}")

    def rotate(self, uri: str) -> None:
        """Add a version to a key."""
        self._twinlock(f"key rotate {uri}")

    def disable(self, uri: str) -> None:
        """Let nobody use a key."""
        self._twinlock(f"key disable {uri}")

    def enable(self, uri: str) -> None:
        """Let it be used again."""
        self._twinlock(f"key enable {uri}")

    def slow_down(self, seconds: int) -> None:
        """Have the first vault answer late."""
        self._twinlock(f"vault delay {self._first} {seconds}")

    def close(self) -> None:
        """Have the first vault answer nobody."""
        self._twinlock(f"vault outage {self._first} on")

    def open(self) -> None:
        """Have the first vault answer as before."""
        self._twinlock(f"vault outage {self._first} off")
        self._twinlock(f"vault delay {self._first} 0")
