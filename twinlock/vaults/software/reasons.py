"""Why a software vault refuses, and which class of failure each reason is: one table, one function.

`raw` of a failure is the reason's code, as a vendor's error code would be; a change of the table is a new `CLASSIFIER`.
"""

import errno
from enum import StrEnum

from twinlock.keys.ports import Corrupt, Denied, Misconfigured, Unavailable, Unclear, VaultFailure
from twinlock.vaults.administration import (
    AdministrationError,
    BadKeyUri,
    NoSuchKey,
    VaultTrouble,
    WrongKeyState,
)
from twinlock.vaults.verdicts import Fault, Verdict

CLASSIFIER = "software/1"


class Reason(StrEnum):
    """Every reason a software vault has for refusing."""

    OUTAGE = "vault-outage"
    BUSY = "vault-busy"
    DISABLED = "key-disabled"
    DELETED = "key-deleted"
    DESTROYED = "key-destroyed"
    REPLACED = "key-replaced"
    GONE = "key-gone"
    VERSION_GONE = "version-gone"
    EXPIRED = "key-expired"
    UNKNOWN_KEY = "key-unknown"
    UNKNOWN_VAULT = "vault-unknown"
    WRONG_TYPE = "key-wrong-type"
    WRONG_SIZE = "payload-wrong-size"
    DAMAGED = "key-file-damaged"
    FULL = "key-file-full"
    NOT_DECRYPTED = "decrypt-failed"


_VERDICTS = {
    Reason.OUTAGE: Verdict(Unavailable, "the vault does not answer", counts=True),
    # our own queue: no evidence that the vault is away (law 5)
    Reason.BUSY: Verdict(Unavailable, "another process holds the vault's lock"),
    Reason.DISABLED: Verdict(Denied, "the key is disabled", exact=True),
    Reason.DELETED: Verdict(Denied, "the key is deleted", exact=True),
    Reason.DESTROYED: Verdict(Denied, "the key is destroyed", exact=True),
    Reason.REPLACED: Verdict(Denied, "the key was deleted and made again", exact=True),
    # a wrapped key proves that the key existed, but a lost folder looks the same: worth a second look
    Reason.GONE: Verdict(Denied, "the key is gone"),
    Reason.VERSION_GONE: Verdict(Denied, "this version of the key is gone", exact=True),
    Reason.EXPIRED: Verdict(Denied, "the key has expired: it unwraps, and wraps no more", exact=True),
    Reason.UNKNOWN_KEY: Verdict(Misconfigured, "no key has this name"),
    Reason.UNKNOWN_VAULT: Verdict(Misconfigured, "no vault has this name"),
    Reason.WRONG_TYPE: Verdict(Misconfigured, "the key is of the wrong type"),
    Reason.WRONG_SIZE: Verdict(Misconfigured, "what is wrapped is 64 bytes long"),
    Reason.DAMAGED: Verdict(Misconfigured, "the key's file is damaged"),
    Reason.FULL: Verdict(Misconfigured, "the key's file holds no more versions"),
    Reason.NOT_DECRYPTED: Verdict(Corrupt, "the bytes do not decrypt"),
}


class VaultFault(Fault[Reason]):
    """Carry a reason up to the seam, where it becomes a vault failure or an administration error."""


def classify(fault: Exception, uri: str) -> VaultFailure:
    """Turn whatever went wrong into one of the five classes; an unknown answer is `Unclear`."""
    if isinstance(fault, VaultFault):
        return _VERDICTS[fault.reason].failure(fault, uri, CLASSIFIER)
    if isinstance(fault, BadKeyUri):
        return Misconfigured(fault.detail, uri=uri, raw="bad-uri", classifier=CLASSIFIER)
    if isinstance(fault, OSError):
        return Misconfigured("the vault's files can't be used", uri=uri, raw=_errno(fault), classifier=CLASSIFIER)
    # only the type: the text of a foreign error may quote what it was given
    return Unclear("the vault gave an unknown answer", uri=uri, raw=type(fault).__name__, classifier=CLASSIFIER)


def refusal(fault: Exception, name: str) -> AdministrationError:
    """Turn whatever went wrong into an error for the person who administers the key or vault of that name."""
    if isinstance(fault, AdministrationError):
        return fault
    if isinstance(fault, OSError):
        return VaultTrouble(
            f"{name}: the vault's files can't be used ({_errno(fault)})", hint="check the folder's owner"
        )
    if not isinstance(fault, VaultFault):
        return VaultTrouble(f"{name}: unexpected failure ({type(fault).__name__})")
    message = f"{name}: {_VERDICTS[fault.reason].detail}"
    if fault.reason in (Reason.UNKNOWN_KEY, Reason.UNKNOWN_VAULT):
        return NoSuchKey(message, hint="make a key with: twinlock key create local://VAULT/KEY")
    if fault.reason is Reason.DELETED:
        return WrongKeyState(message, hint=f"bring it back with: twinlock key restore {name}")
    if fault.reason is Reason.BUSY:
        return VaultTrouble(message, hint="try again in a moment")
    if fault.reason is Reason.DAMAGED:
        return VaultTrouble(message, hint="bring the file back from a backup")
    return WrongKeyState(message)


def _errno(fault: OSError) -> str:
    return errno.errorcode.get(fault.errno or 0, type(fault).__name__)
