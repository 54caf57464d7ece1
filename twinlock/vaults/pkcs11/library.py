"""What is done with one token through its library. It may block or crash, so all of this runs in a process of its own.

No handle outlives a request: every key is looked up again by its label, since an old handle may mean another key. A
library may also go on showing a token as it was, or an empty one where it was removed. So before a key counts as gone
it is looked for once more with the library begun anew (`fresh`).
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pkcs11
from pkcs11 import Attribute, KeyType, MechanismFlag, PKCS11Error, TokenFlag

from twinlock.vaults.pkcs11.cipher import decrypt, encrypt
from twinlock.vaults.pkcs11.codes import code_of
from twinlock.vaults.pkcs11.frames import packed, unpacked
from twinlock.vaults.pkcs11.objects import AVAILABILITY, DESTROYED, KEY_BYTES, Refusal, everything, mapper, record

_FIRST = b"\x01"
# After these the session, the token or a handle may be lost: begun anew, the library may serve.
_RENEWS = frozenset(
    {0x02, 0x05, 0x06, 0x30, 0x31, 0x32, 0x60, 0x82, 0x90, 0x91, 0xB0, 0xB1, 0xB3, 0xE0, 0xF0, 0x101, 0x190}
)
# These are about the key or the bytes; after every other one the next request begins anew.
_KEEPS = frozenset({0x20, 0x40, 0x68, 0x110, 0x200})
_PIN = frozenset({0xA0, 0xA1, 0xA2, 0xA3, 0xA4, 0x102})
_NOT_INITIALIZED = 0x190
_VENDOR_DEFINED = 1 << 31


class Token:
    """Hold the library, and our session on the token once it is needed."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._module: str = settings["module"]
        self._label: str = settings["token"]
        self._serial: str = settings["serial"]
        self._slot: int | None = settings["slot"]
        self._pin: str = settings["pin"]
        self._library: Any = None
        self._session: Any = None
        self._refused: PKCS11Error | None = None

    @property
    def barred(self) -> bool:
        """Say whether the PIN was refused: it is never tried again, since that would lock the token."""
        return self._refused is not None

    def do(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what is asked; what a lost session or token has spoilt is done once more with the library begun anew."""
        if request.get("fresh"):
            self._session = None
        try:
            return self._tried(request)
        except PKCS11Error as fault:
            if code_of(fault) not in _RENEWS:
                raise
        return self._tried(request)

    def close(self) -> None:
        """Log out, by ending everything that this process has with the library."""
        if self._library is not None:
            with suppress(PKCS11Error):
                self._library.finalize()

    def _tried(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            return self._do(request)
        except PKCS11Error as fault:
            if code_of(fault) not in _KEEPS:
                self._session = None
            raise

    def _do(self, request: dict[str, Any]) -> dict[str, Any]:
        operations = {
            "look": self._look,
            "encrypt": self._encrypt,
            "decrypt": self._decrypt,
            "create": self._create,
            "destroy": self._destroy,
        }
        return operations[request["operation"]](request)

    def _look(self, request: dict[str, Any]) -> dict[str, Any]:
        return everything(self._opened(), request["label"]).facts

    def _encrypt(self, request: dict[str, Any]) -> dict[str, Any]:
        key = everything(self._opened(), request["label"]).usable(request["version"], "encrypt")
        if key is None:
            return {"absent": True}
        nonce, ciphertext = encrypt(key, unpacked(request["data"]), unpacked(request["context"]))
        return {"nonce": packed(nonce), "data": packed(ciphertext)}

    def _decrypt(self, request: dict[str, Any]) -> dict[str, Any]:
        key = everything(self._opened(), request["label"]).usable(request["version"], "decrypt")
        if key is None:
            return {"absent": True}
        nonce, data, context = (unpacked(request[name]) for name in ("nonce", "data", "context"))
        return {"data": packed(decrypt(key, nonce, data, context))}

    def _create(self, request: dict[str, Any]) -> dict[str, Any]:
        """Make an availability key: first the record of what it is for, so that a crash in between is repaired."""
        label = request["label"]
        with self._writing() as session:
            found = everything(session, label)
            if found.keys or DESTROYED in found.records:
                return found.facts
            if AVAILABILITY not in found.records:
                record(session, label, AVAILABILITY)
            made = session.generate_key(
                KeyType.AES,
                8 * KEY_BYTES,
                id=_FIRST,
                label=label,
                store=True,
                capabilities=MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT,
                template={Attribute.EXTRACTABLE: False, Attribute.SENSITIVE: True, Attribute.PRIVATE: True},
            )
            after = everything(session, label)
            if len(after.keys) != 1:  # another process made one at the same time
                made.destroy()
                raise Refusal("token-busy")
            return after.facts

    def _destroy(self, request: dict[str, Any]) -> dict[str, Any]:
        """Destroy an availability key: first the record that it is, which is what forbids it and its name for ever."""
        label = request["label"]
        with self._writing() as session:
            found = everything(session, label)
            if AVAILABILITY not in found.records:
                if found.keys:
                    raise Refusal("key-not-ours")
                return {}
            if DESTROYED not in found.records:
                record(session, label, DESTROYED)
            for key in found.keys:
                key.handle.destroy()
        return {}

    @contextmanager
    def _writing(self) -> Iterator[Any]:
        session = self._opened().token.open(rw=True, attribute_mapper=mapper())
        try:
            yield session
        finally:
            with suppress(PKCS11Error):
                session.close()

    def _opened(self) -> Any:
        if self._refused is not None:
            raise self._refused
        if self._session is None:
            self._begin()
            self._session = self._log_in(self._token())
        return self._session

    def _begin(self) -> None:
        """Begin with the library, anew where it was in use: many look at their slots but once."""
        try:
            if self._library is not None:
                self._end()
                self._library.initialize()
                return
            self._library = pkcs11.lib(self._module)
        except PKCS11Error as fault:
            if code_of(fault):
                raise
            raise Refusal("module-unusable") from None

    def _end(self) -> None:
        try:
            self._library.finalize()
        except PKCS11Error as fault:
            if code_of(fault) != _NOT_INITIALIZED:
                raise SystemExit(1) from None  # what can't be ended here is ended with its process

    def _token(self) -> Any:
        found, fault = [], None
        for slot in self._library.get_slots(token_present=True):
            try:
                token = slot.get_token()
            except PKCS11Error as error:
                fault = error
                continue
            if token.label.rstrip("\0 ") == self._label:
                found.append(token)
        if not found:
            # The fault of a slot may be our token's; that of an empty or foreign one is no matter.
            raise fault if fault is not None and code_of(fault) in _RENEWS else Refusal("no-token")
        own = [token for token in found if self._is_own(token)]
        if len(own) != 1:
            raise Refusal("tokens-several" if own else "token-other")
        return own[0]

    def _is_own(self, token: Any) -> bool:
        serial = token.serial.decode("utf-8", "replace").strip("\0 ")
        return self._serial in ("", serial) and self._slot in (None, token.slot.slot_id)

    def _log_in(self, token: Any) -> Any:
        if token.flags & TokenFlag.USER_PIN_FINAL_TRY and not token.flags & TokenFlag.USER_PIN_LOCKED:
            raise Refusal("pin-last-try")
        try:
            return token.open(user_pin=self._pin, attribute_mapper=mapper())
        except PKCS11Error as fault:
            code = code_of(fault)
            if code in _PIN or code >= _VENDOR_DEFINED:
                self._refused = fault
            raise
