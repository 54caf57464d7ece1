"""The administration of a software vault, whatever shelf it keeps its keys on."""

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from twinlock.keys.ports import Clock, KeyDescription
from twinlock.vaults.administration import AdministrationError, KeyExists, KeyState, WrongKeyState
from twinlock.vaults.software.material import AES_GCM, Material, generate_aes
from twinlock.vaults.software.reasons import Reason, VaultFault, refusal
from twinlock.vaults.software.records import KeyRecord, NamedKeys, Purpose, make_key, name_key
from twinlock.vaults.software.shelf import KeyShelf
from twinlock.vaults.uris import KeyUri, check_name, parse_key_uri

T = TypeVar("T")

MOST_DELAY_SECONDS = 3600.0


class SoftwareAdministration:
    """Implement `KeyAdministration`; see there for what each method promises."""

    def __init__(self, shelf: KeyShelf, clock: Clock, make_root: Callable[[], Material], scheme: str | None) -> None:
        self._shelf = shelf
        self._clock = clock
        self._make_root = make_root
        self._scheme = scheme

    def locate(self, uri: str) -> KeyUri:
        """Split a URI into its parts, or raise BadKeyUri."""
        return parse_key_uri(uri, self._scheme)

    async def create_root_key(self, uri: str, expires: datetime | None = None) -> KeyDescription:
        """Make a root key with a new identity; `KeyExists` where a live key has the name."""
        return await self._administer(uri, lambda: self._create_root_key(uri, expires))

    async def disable(self, uri: str) -> KeyState:
        """Refuse all use of a key until `enable`."""
        return await self._alter(uri, lambda key: key.check_live().but(enabled=False))

    async def enable(self, uri: str) -> KeyState:
        """Allow the use of a disabled key again."""
        return await self._alter(uri, lambda key: key.check_live().but(enabled=True))

    async def delete(self, uri: str) -> KeyState:
        """Delete a key softly."""
        return await self._alter(uri, lambda key: key.but(deleted=self._clock.now()) if key.live else key)

    async def restore(self, uri: str) -> KeyState:
        """Bring back the most recently deleted key of that name; `WrongKeyState` where a live key has it."""
        return await self._alter(uri, lambda key: _restored(key, uri))

    async def rotate(self, uri: str) -> KeyState:
        """Add a version, which wraps from now on; the older ones still unwrap."""
        return await self._administer(uri, lambda: self._rotate(uri))

    async def state(self, uri: str) -> KeyState:
        """Say where a key is in its life, also when it is deleted or destroyed."""
        return await self._administer(uri, lambda: self._current(self.locate(uri)).state(uri))

    async def set_outage(self, vault: str, on: bool) -> None:
        """Make a whole vault, named without scheme, unreachable or reachable for everyone who shares it."""
        await self._administer(vault, lambda: self._shelf.set_outage(check_name(vault, "vault"), on))

    async def outage(self, vault: str) -> bool:
        """Say whether a vault, named without scheme, was made unreachable."""
        return await self._administer(vault, lambda: self._shelf.outage(check_name(vault, "vault")))

    async def set_delay(self, vault: str, seconds: float) -> None:
        """Have a whole vault, named without scheme, keep its answers back for so long; 0 ends it."""
        await self._administer(vault, lambda: self._shelf.set_delay(check_name(vault, "vault"), _check_delay(seconds)))

    async def _off_loop(self, work: Callable[[], T]) -> T:
        """Do blocking work; a vault whose work really blocks does it in a thread."""
        return work()

    async def _administer(self, name: str, work: Callable[[], T]) -> T:
        try:
            return await self._off_loop(work)
        except Exception as fault:  # noqa: BLE001 - the seam: nothing but the one family may leave
            raise refusal(fault, name) from None  # the cause may hold key material in its frames

    async def _alter(self, uri: str, alter: Callable[[KeyRecord], KeyRecord]) -> KeyState:
        return await self._administer(uri, lambda: self._change_current(self.locate(uri), alter).state(uri))

    def _current(self, key: KeyUri) -> KeyRecord:
        named = self._shelf.read(key)
        if named is None:
            raise VaultFault(Reason.UNKNOWN_KEY)
        return named.current

    def _change_current(self, key: KeyUri, alter: Callable[[KeyRecord], KeyRecord]) -> KeyRecord:
        self._current(key)  # refuses an unknown name before `change` makes a vault for it

        def step(named: NamedKeys | None) -> NamedKeys:
            if named is None:
                raise VaultFault(Reason.UNKNOWN_KEY)
            after = alter(named.current)
            return named if after == named.current else named.changed(after)

        return self._shelf.change(key, step).current

    def _create_root_key(self, uri: str, expires: datetime | None) -> KeyDescription:
        key = self.locate(uri)
        _check_date(expires)
        # the lock is never held while a key is generated, which takes up to a second
        made = make_key(Purpose.ROOT, self._make_root(), self._clock.now(), expires)

        def step(named: NamedKeys | None) -> NamedKeys:
            if named is not None and named.current.live:
                raise KeyExists(f"{uri} exists already", hint=f"choose another name, or: twinlock key delete {uri}")
            return name_key(named, str(key), made)

        return self._shelf.change(key, step).current.describe(str(key))

    def _rotate(self, uri: str) -> KeyState:
        key = self.locate(uri)
        algorithm = self._current(key).check_live().versions[-1].algorithm
        material = generate_aes() if algorithm == AES_GCM else self._make_root()
        now = self._clock.now()
        return self._change_current(key, lambda found: found.check_live().rotated(material, now)).state(str(key))


def _restored(key: KeyRecord, uri: str) -> KeyRecord:
    if key.live:
        raise WrongKeyState(
            f"{uri}: a live key has this name", hint=f"delete that key first: twinlock key delete {uri}"
        )
    if not key.versions:
        raise VaultFault(Reason.DESTROYED)
    return key.but(deleted=None)


def _check_delay(seconds: float) -> float:
    if not 0 <= seconds <= MOST_DELAY_SECONDS:
        raise AdministrationError("a vault can't be that slow", hint=f"say 0 to {MOST_DELAY_SECONDS:g} seconds")
    return seconds


def _check_date(expires: datetime | None) -> None:
    if expires is not None and expires.tzinfo is None:
        raise AdministrationError("the expiry has no time zone", hint="give it with one, such as 2030-01-01T00:00:00Z")
