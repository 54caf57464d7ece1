"""The objects of a token that have one label: the versions of a key, and the records that we keep beside it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pkcs11 import Attribute, KeyType, ObjectClass, PKCS11Error
from pkcs11.attributes import AttributeMapper, handle_bytes, handle_ulong

AVAILABILITY, DESTROYED = "availability", "destroyed"
KEY_BYTES = 32

_MOST_OBJECTS = 200
_APPLICATION = "twinlock"
_TOLD = (
    Attribute.CLASS,
    Attribute.KEY_TYPE,
    Attribute.VALUE_LEN,
    Attribute.ID,
    Attribute.CHECK_VALUE,
    Attribute.ENCRYPT,
    Attribute.DECRYPT,
    Attribute.APPLICATION,
)


class Refusal(Exception):
    """Carry a reason of this process's own."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Key:
    """Hold a key's handle for as long as one request takes, and what is told of the key."""

    handle: Any
    id: bytes
    check: bytes
    is_aes256: bool
    encrypt: bool
    decrypt: bool

    @property
    def facts(self) -> dict[str, Any]:
        """Return what is told of the key."""
        return {
            "id": self.id.hex(),
            "check": self.check.hex(),
            "aes256": self.is_aes256,
            "encrypt": self.encrypt,
            "decrypt": self.decrypt,
            "ends": self._ends,
        }

    @property
    def _ends(self) -> str:
        # Asked alone, and late: SoftHSM can't read the dates of a private key, and nothing that it wraps hangs on them.
        try:
            return bytes(self.handle[Attribute.END_DATE]).decode("ascii", "replace")
        except PKCS11Error:
            return ""


@dataclass(frozen=True)
class Found:
    """Hold everything that has one label."""

    keys: list[Key]
    records: list[str]

    @property
    def facts(self) -> dict[str, Any]:
        """Return what is told of it."""
        return {"keys": [key.facts for key in self.keys], "records": self.records}

    def usable(self, version: str, use: str) -> Key | None:
        """Return the one key of a version, unless there is anything to be said against its use."""
        found = [key for key in self.keys if int.from_bytes(key.id) == int(version, 16)]
        if len(found) != 1 or DESTROYED in self.records or not found[0].is_aes256 or not getattr(found[0], use):
            return None
        return found[0]


def mapper() -> AttributeMapper:
    """Read attributes as they are: a vendor's own class or type, or an empty date, must not spoil the search."""
    mapper = AttributeMapper()
    mapper.register_handler(Attribute.CLASS, *handle_ulong)
    mapper.register_handler(Attribute.KEY_TYPE, *handle_ulong)
    mapper.register_handler(Attribute.END_DATE, *handle_bytes)
    return mapper


def everything(session: Any, label: str) -> Found:
    """Return everything on the token that has a label."""
    keys, records = [], []
    found = list(session.get_objects({Attribute.LABEL: label, Attribute.TOKEN: True}))
    if len(found) > _MOST_OBJECTS:
        raise Refusal("key-ambiguous")
    for each in found:
        # In one request: of what a token does not have or does not show it says nothing.
        said = each.get_attributes(_TOLD)
        if said.get(Attribute.CLASS) == ObjectClass.SECRET_KEY:
            keys.append(_key(each, said))
        elif said.get(Attribute.CLASS) == ObjectClass.DATA and said.get(Attribute.APPLICATION) == _APPLICATION:
            records.append(bytes(each[Attribute.VALUE]).decode("ascii", "replace"))
    return Found(keys, records)


def _key(handle: Any, said: Mapping[Attribute, Any]) -> Key:
    is_aes = said.get(Attribute.KEY_TYPE) == KeyType.AES
    return Key(
        handle=handle,
        id=said.get(Attribute.ID, b""),
        check=said.get(Attribute.CHECK_VALUE, b""),
        is_aes256=is_aes and said.get(Attribute.VALUE_LEN, KEY_BYTES) == KEY_BYTES,
        encrypt=said.get(Attribute.ENCRYPT, False),
        decrypt=said.get(Attribute.DECRYPT, False),
    )


def record(session: Any, label: str, what: str) -> None:
    """Write something down beside a key; nobody but us reads it."""
    session.create_object(
        {
            Attribute.CLASS: ObjectClass.DATA,
            Attribute.TOKEN: True,
            Attribute.PRIVATE: True,
            Attribute.LABEL: label,
            Attribute.APPLICATION: _APPLICATION,
            Attribute.VALUE: what.encode(),
        }
    )
