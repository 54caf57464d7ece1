"""Container keys in the caller's hands: at most 60 seconds, renewed only at the custodian (design section 5)."""

from dataclasses import dataclass

from twinlock.custody.port import Asker, ContainerRef, Custodian
from twinlock.keys.items import ItemCipher
from twinlock.keys.ports import Clock


@dataclass(frozen=True, slots=True)
class _Held:
    cipher: ItemCipher
    until: float


class Keyring:
    """Open container keys and keep them for as long as the custodian allows.

    What one initiator opened never serves another: the custodian decides for each of them (law 7).
    """

    def __init__(self, custodian: Custodian, clock: Clock) -> None:
        self._custodian = custodian
        self._clock = clock
        self._held: dict[tuple[ContainerRef, str], _Held] = {}

    async def open(self, ref: ContainerRef, asker: Asker) -> ItemCipher:
        """Return the cipher of a container key generation; raise as the custodian does."""
        now = self._clock.monotonic()
        self._held = {name: held for name, held in self._held.items() if held.until > now}
        name = (ref, str(asker.initiator))
        held = self._held.get(name)
        if held is not None:
            return held.cipher
        opened = await self._custodian.open_container_key(ref, asker)
        cipher = ItemCipher(opened.key)
        opened.key.wipe()
        if opened.keep_seconds > 0:
            # Counted from before the call: the custodian's answer is already as old as the call was long.
            self._held[name] = _Held(cipher, now + opened.keep_seconds)
        return cipher
