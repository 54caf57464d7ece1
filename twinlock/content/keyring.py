"""Container keys in the caller's hands: at most 60 seconds, renewed only at the custodian."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from twinlock.custody.port import MOST_KEPT_SECONDS, Asker, ContainerRef, Custodian
from twinlock.keys.blobs import SiteCipher
from twinlock.keys.items import ItemCipher
from twinlock.keys.ports import Clock
from twinlock.keys.secret import SecretKey

CipherT = TypeVar("CipherT")


@dataclass(frozen=True, slots=True)
class Held(Generic[CipherT]):
    """Hold a cipher, and until when it may be used on the word of the custodian, on the monotonic clock."""

    cipher: CipherT
    until: float


class _Keyring(Generic[CipherT]):
    """Open container keys and keep them for as long as the custodian allows.

    What one initiator opened never serves another: the custodian decides for each of them (law 7).
    """

    def __init__(self, custodian: Custodian, clock: Clock, cipher: Callable[[SecretKey], CipherT]) -> None:
        self._custodian = custodian
        self._clock = clock
        self._cipher = cipher
        self._held: dict[tuple[ContainerRef, str], Held[CipherT]] = {}
        self._first_ends = 0.0

    async def open(self, ref: ContainerRef, asker: Asker) -> CipherT:
        """Return the cipher of a container key generation; raise as the custodian does."""
        return (await self.lend(ref, asker)).cipher

    async def lend(self, ref: ContainerRef, asker: Asker) -> Held[CipherT]:
        """Return what `open` does with its end, at which a stream asks again: the key may have been here for a while.

        A key that is good for one call alone is that for one stream, too, which asks again all the same.
        """
        now = self._clock.monotonic()
        self._forget(now)
        name = (ref, str(asker.initiator))
        held = self._held.get(name)
        if held is not None:
            return held
        opened = await self._custodian.open_container_key(ref, asker)
        cipher = self._cipher(opened.key)
        opened.key.wipe()
        # Counted from before the call: the custodian's answer is already as old as the call was long.
        lent = Held(cipher, now + (opened.keep_seconds or MOST_KEPT_SECONDS))
        if opened.keep_seconds > 0:
            self._hold(name, lent)
        return lent

    def _hold(self, name: tuple[ContainerRef, str], held: Held[CipherT]) -> None:
        self._first_ends = min(self._first_ends, held.until) if self._held else held.until
        self._held[name] = held

    def _forget(self, now: float) -> None:
        if now >= self._first_ends:
            self._held = {name: held for name, held in self._held.items() if held.until > now}
            self._first_ends = min((held.until for held in self._held.values()), default=now)


class Keyring(_Keyring[ItemCipher]):
    """Keep mailbox keys."""

    def __init__(self, custodian: Custodian, clock: Clock) -> None:
        super().__init__(custodian, clock, ItemCipher)


class SiteKeyring(_Keyring[SiteCipher]):
    """Keep site keys."""

    def __init__(self, custodian: Custodian, clock: Clock) -> None:
        super().__init__(custodian, clock, SiteCipher)
