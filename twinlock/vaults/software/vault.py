"""A vault in software: the port's five questions, answered from a shelf of keys."""

from collections.abc import Callable
from typing import TypeVar

from twinlock.keys.ports import Destruction, KeyDescription, WrappedKey
from twinlock.vaults.software.administration import SoftwareAdministration
from twinlock.vaults.software.material import check_payload, generate_aes
from twinlock.vaults.software.reasons import Reason, VaultFault, classify
from twinlock.vaults.software.records import KeyRecord, NamedKeys, Purpose, make_key, name_key
from twinlock.vaults.uris import KeyUri

T = TypeVar("T")


class SoftwareVault(SoftwareAdministration):
    """Implement `AvailabilityVault` and `KeyAdministration` over a shelf; both purposes share one space of names."""

    async def describe(self, uri: str, version: str | None = None) -> KeyDescription:
        """Describe one version of a key (default: the newest); a disabled or expired key is described, not refused."""
        return await self._answer("describe", uri, lambda: self._describe(uri, version))

    async def wrap(self, uri: str, payload: bytes, context: bytes) -> WrappedKey:
        """Wrap 64 bytes under the newest version of a key; `Denied` if it is disabled or has expired."""
        return await self._answer("wrap", uri, lambda: self._wrap(uri, payload, context))

    async def unwrap(self, wrapped: WrappedKey, context: bytes) -> bytes:
        """Return the 64 bytes; `Denied` where the key's identity is no longer the one that wrapped them."""
        return await self._answer("unwrap", wrapped.uri, lambda: self._unwrap(wrapped, context))

    async def create(self, uri: str) -> KeyDescription:
        """Make an availability key, or find the one that a repeat of the same request made before.

        A name whose key was deleted or destroyed is `Denied`: a late repeat must not bring a purged name back.
        """
        return await self._answer("create", uri, lambda: self._create(uri))

    async def destroy(self, uri: str) -> Destruction:
        """Destroy an availability key for good, archived ones of its name too; one that is gone is no error."""
        await self._answer("destroy", uri, lambda: self._destroy(uri))
        return Destruction()

    async def _answer(self, operation: str, uri: str, work: Callable[[], T]) -> T:
        """Be the seam of the port: whatever goes wrong leaves as a vault failure."""
        try:
            answer, delay = await self._off_loop(lambda: (work(), self._delay(uri)))
            if delay:
                await self._clock.sleep(delay)
            return answer
        except Exception as fault:  # noqa: BLE001 - the seam: nothing but the five classes may leave
            raise classify(fault, uri) from None  # the cause may hold key material in its frames

    def _describe(self, uri: str, version: str | None) -> KeyDescription:
        key = self._reach(uri)
        return self._live(key).describe(str(key), version)

    def _wrap(self, uri: str, payload: bytes, context: bytes) -> WrappedKey:
        key = self._reach(uri)
        record = self._live(key).check_enabled()
        if record.expires is not None and record.expires <= self._clock.now():
            raise VaultFault(Reason.EXPIRED)
        newest = record.version(None)
        ciphertext = newest.material().wrap(check_payload(payload), context)
        return WrappedKey(str(key), newest.version, record.identity, ciphertext)

    def _unwrap(self, wrapped: WrappedKey, context: bytes) -> bytes:
        key = self._reach(wrapped.uri)
        # who holds a wrapped key knows that its key existed
        record = self._live(key, unknown=Reason.GONE)
        if record.identity != wrapped.identity:
            raise VaultFault(Reason.REPLACED)
        return record.check_enabled().version(wrapped.version).material().unwrap(wrapped.ciphertext, context)

    def _create(self, uri: str) -> KeyDescription:
        key = self._reach(uri)
        now = self._clock.now()

        def step(named: NamedKeys | None) -> NamedKeys:
            if named is None:
                return name_key(None, str(key), make_key(Purpose.AVAILABILITY, generate_aes(), now))
            _check_availability(named.current.check_live())
            return named

        return self._shelf.change(key, step).current.describe(str(key))

    def _destroy(self, uri: str) -> None:
        key = self._reach(uri)
        if self._find(key) is not None:
            self._shelf.change(key, _destroyed)

    def _reach(self, uri: str) -> KeyUri:
        key = self.locate(uri)
        if self._shelf.outage(key.vault):
            raise VaultFault(Reason.OUTAGE)
        return key

    def _delay(self, uri: str) -> float:
        return self._shelf.delay(self.locate(uri).vault)

    def _find(self, key: KeyUri) -> NamedKeys | None:
        try:
            return self._shelf.read(key)
        except VaultFault as fault:
            if fault.reason is Reason.UNKNOWN_VAULT:
                return None
            raise

    def _live(self, key: KeyUri, unknown: Reason = Reason.UNKNOWN_KEY) -> KeyRecord:
        named = self._shelf.read(key)
        if named is None:
            raise VaultFault(unknown)
        return named.current.check_live()


def _destroyed(named: NamedKeys | None) -> NamedKeys:
    if named is None:
        raise VaultFault(Reason.UNKNOWN_KEY)
    for record in named.keys:  # an archived root key under this name is the customer's, and not ours to destroy
        _check_availability(record)
    return named.destroyed()


def _check_availability(record: KeyRecord) -> None:
    if record.purpose is not Purpose.AVAILABILITY:
        raise VaultFault(Reason.WRONG_TYPE)
