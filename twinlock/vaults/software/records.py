"""The life of a software key: what is kept under one name, and every change of it, as pure functions.

A name keeps every key it ever had, the present one last, so that what once existed is never taken for unknown. The JSON
of `NamedKeys` is the format of a key file; `format` is its version.
"""

import secrets
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PrivateAttr

from twinlock.keys.ports import KeyDescription
from twinlock.vaults.administration import KeyState, KeyStatus
from twinlock.vaults.software.material import Material, parse
from twinlock.vaults.software.reasons import Reason, VaultFault


class _Record(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,  # a damaged key file must not end up in a message
        ser_json_bytes="base64",
        val_json_bytes="base64",
    )

    def but(self, **changes: Any) -> Self:
        """Return a copy with some fields changed."""
        return self.model_copy(update=changes)


class Purpose(StrEnum):
    """What a key is for: neither kind is ever made, found or destroyed as the other."""

    ROOT = "root"
    AVAILABILITY = "availability"


class KeyVersion(_Record):
    """Hold one version of a key, secret bytes included."""

    version: str = Field(pattern=r"^[1-9][0-9]{0,8}$")
    algorithm: str
    fingerprint: str
    created: AwareDatetime
    secret: bytes = Field(repr=False)
    # parsing checks the primes of an RSA key, which takes as long as a hundred unwraps
    _material: Material | None = PrivateAttr(default=None)

    @classmethod
    def of(cls, material: Material, version: str, now: datetime) -> Self:
        """Make a version of new material."""
        return cls(
            version=version,
            algorithm=material.algorithm,
            fingerprint=material.fingerprint,
            created=now,
            secret=material.export(),
        )

    def material(self) -> Material:
        """Return the key itself; a fault where the bytes are not the ones that were stored."""
        if self._material is None:
            material = parse(self.algorithm, self.secret)
            if material.fingerprint != self.fingerprint:
                raise VaultFault(Reason.DAMAGED)
            self._material = material
        return self._material


class KeyRecord(_Record):
    """Hold one key with all its versions, the newest last; `identity` is new for every key that is made."""

    purpose: Purpose
    identity: str
    enabled: bool = True
    deleted: AwareDatetime | None = None
    expires: AwareDatetime | None = None
    versions: tuple[KeyVersion, ...]

    @property
    def status(self) -> KeyStatus:
        """Say where the key is in its life."""
        if not self.versions:
            return KeyStatus.DESTROYED
        if self.deleted is not None:
            return KeyStatus.DELETED
        return KeyStatus.ENABLED if self.enabled else KeyStatus.DISABLED

    @property
    def live(self) -> bool:
        """Say whether the key has its name: neither deleted nor destroyed."""
        return self.status in (KeyStatus.ENABLED, KeyStatus.DISABLED)

    def version(self, version: str | None) -> KeyVersion:
        """Return one version, the newest for None, or raise the fault that says it is gone."""
        if version is None:
            return self.versions[-1]
        for found in self.versions:
            if found.version == version:
                return found
        raise VaultFault(Reason.VERSION_GONE)

    def check_live(self) -> Self:
        """Return the key, or raise the fault that says why it is not there."""
        if self.live:
            return self
        raise VaultFault(Reason.DELETED if self.status is KeyStatus.DELETED else Reason.DESTROYED)

    def check_enabled(self) -> Self:
        """Return the key, or raise the fault that says why it can't be used."""
        if not self.check_live().enabled:
            raise VaultFault(Reason.DISABLED)
        return self

    def rotated(self, material: Material, now: datetime) -> Self:
        """Return the key with one more version."""
        number = str(int(self.versions[-1].version) + 1)
        return self.but(versions=(*self.versions, KeyVersion.of(material, number, now)))

    def describe(self, uri: str, version: str | None = None) -> KeyDescription:
        """Describe one version for the core."""
        found = self.version(version)
        return KeyDescription(
            uri=uri,
            version=found.version,
            identity=self.identity,
            fingerprint=found.fingerprint,
            algorithm=found.algorithm,
            enabled=self.enabled,
            expires=self.expires,
            recoverable=self.purpose is Purpose.ROOT,  # an availability key is destroyed for good
        )

    def state(self, uri: str) -> KeyState:
        """Describe the key's life for the person who administers it."""
        versions = tuple(version.version for version in self.versions)
        return KeyState(uri, versions[-1] if versions else "", self.status, versions)


class NamedKeys(_Record):
    """Hold every key that one name ever had, the present one last."""

    format: Literal["twinlock-software-key/1"] = "twinlock-software-key/1"
    uri: str
    keys: tuple[KeyRecord, ...] = Field(min_length=1)

    @property
    def current(self) -> KeyRecord:
        """Return the key that has the name, or was the last to have it."""
        return self.keys[-1]

    def changed(self, key: KeyRecord) -> Self:
        """Return these keys with the present one replaced."""
        return self.but(keys=(*self.keys[:-1], key))

    def destroyed(self) -> Self:
        """Return these keys without any secret byte; identities stay, so that later use is refused as denied."""
        return self.but(keys=tuple(key.but(versions=()) for key in self.keys))


def make_key(purpose: Purpose, material: Material, now: datetime, expires: datetime | None = None) -> KeyRecord:
    """Make a key with a new random identity and its first version."""
    return KeyRecord(
        purpose=purpose,
        identity=f"local:{secrets.token_hex(16)}",
        expires=expires,
        versions=(KeyVersion.of(material, "1", now),),
    )


def name_key(named: NamedKeys | None, uri: str, key: KeyRecord) -> NamedKeys:
    """Give a name to a key; what had the name before is archived behind it."""
    return NamedKeys(uri=uri, keys=(key,)) if named is None else named.but(keys=(*named.keys, key))
