"""What a good answer of AWS KMS holds, read strictly: what does not fit is an unknown answer.

stored      the bytes of `CiphertextBlob` as they come, which name the key and the material that made them

A symmetric key keeps its ARN over rotations: new material wraps, all older material unwraps for as long as the key
lives, and no request names a material. So a key has the one version "1" here, and its identity is its ARN with the
moment in which it was made. A multi-region key's replica may be deleted and made again under its ARN.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from twinlock.keys.ports import KeyDescription
from twinlock.keys.root_payload import PAYLOAD_BYTES
from twinlock.vaults.administration import BadKeyUri
from twinlock.vaults.aws.reasons import Reason, VaultFault
from twinlock.vaults.aws.uris import KmsUri, parse_key_arn

VERSION = "1"
ALGORITHM, USAGE = "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT"
MOST_CIPHERTEXT_BYTES = 6144  # what KMS takes
_DELETED = ("PendingDeletion", "PendingReplicaDeletion")
_REFUSED = {
    "Unavailable": Reason.KEY_STORE_CLOSED,
    "Creating": Reason.NOT_READY,
    **dict.fromkeys(_DELETED, Reason.DELETED),
}
_USED = {"Enabled": True, "Updating": True, "Disabled": False}


@dataclass(frozen=True, slots=True)
class KmsKey:
    """Hold what the vault says of a key, whatever its state is; `arn` is also an alias' key."""

    uri: KmsUri
    arn: str
    state: str
    identity: str
    expires: datetime | None
    deletion: datetime | None
    is_ours: bool  # it is described as the availability key of this very name

    @property
    def description(self) -> KeyDescription:
        """Describe the key, or raise the fault that says that it is gone, or may be."""
        if self.state == "PendingImport":
            raise VaultFault(Reason.NO_MATERIAL if self.expires is None else Reason.MATERIAL_EXPIRED)
        if self.state not in _USED:
            raise VaultFault(_REFUSED.get(self.state, Reason.UNKNOWN), self.state)
        return KeyDescription(
            uri=str(self.uri),
            version=VERSION,
            identity=self.identity,
            fingerprint=hashlib.sha256(f"fingerprint {self.identity}".encode()).hexdigest(),
            algorithm=ALGORITHM,
            enabled=_USED[self.state],
            expires=self.expires,
            recoverable=True,  # no key goes without a week in which that can be cancelled
        )

    @property
    def is_deleted(self) -> bool:
        """Say whether the key waits for its deletion."""
        return self.state in _DELETED


def read_key(uri: KmsUri, answer: dict[str, Any], marker: str = "") -> KmsKey:
    """Read a key's description; a fault where it is of no use to us, or not to be understood."""
    data = answer.get("KeyMetadata")
    if not isinstance(data, dict):
        raise VaultFault(Reason.UNKNOWN)
    made, state = data.get("CreationDate"), data.get("KeyState")
    if not isinstance(made, datetime) or not isinstance(state, str):
        raise VaultFault(Reason.UNKNOWN)
    kind = (data.get("KeySpec"), data.get("KeyUsage"), data.get("KeyManager"))
    if kind != (ALGORITHM, USAGE, "CUSTOMER"):
        raise VaultFault(Reason.WRONG_TYPE)
    arn = _arn(uri, data.get("Arn"))
    stamp = hashlib.sha256(f"{arn} {round(made.timestamp() * 1000)}".encode()).hexdigest()
    return KmsKey(
        uri,
        arn,
        state[:30],
        f"aws:{stamp[:32]}",
        _date(data.get("ValidTo")),
        read_deletion(data),
        bool(marker) and data.get("Description") == marker,
    )


def _arn(uri: KmsUri, found: object) -> str:
    """Return the ARN of the key that answers: the one that was asked, or one in the vault of its alias."""
    try:
        arn = parse_key_arn(str(found))
    except BadKeyUri:
        raise VaultFault(Reason.UNKNOWN, "arn") from None
    if arn != uri and not (uri.alias and arn.vault_uri == uri.vault_uri):
        raise VaultFault(Reason.UNKNOWN, "another arn")
    return str(arn)


def read_deletion(data: dict[str, Any]) -> datetime | None:
    """Return when a key will be deleted, if it will be."""
    return _date(data.get("DeletionDate"))


def _date(found: object) -> datetime | None:
    return found.astimezone(UTC) if isinstance(found, datetime) else None


def read_ciphertext(arn: str, answer: dict[str, Any]) -> bytes:
    """Return the bytes that a key made."""
    found = answer.get("CiphertextBlob")
    if not isinstance(found, bytes) or not is_ciphertext(found) or answer.get("KeyId") != arn:
        raise VaultFault(Reason.UNKNOWN)
    return found


def is_ciphertext(ciphertext: bytes) -> bool:
    """Say whether bytes can be what a key has made of 64."""
    return PAYLOAD_BYTES < len(ciphertext) <= MOST_CIPHERTEXT_BYTES


def read_payload(answer: dict[str, Any]) -> bytes:
    """Return the 64 bytes."""
    found = answer.get("Plaintext")
    if not isinstance(found, bytes) or len(found) != PAYLOAD_BYTES:
        raise VaultFault(Reason.NOT_DECRYPTED)
    return found


def context_of(context: bytes) -> dict[str, str]:
    """Return a context as KMS binds it: its digest, since CloudTrail shows it to everybody who may read that."""
    return {"twinlock-context": hashlib.sha256(context).hexdigest()}
