"""What a token's answers mean: every reason for a failure, its class, and the codes by which it is known.

A library answers with a number (CKR_...); what its process finds out itself has a name. Change the rules together with
`CLASSIFIER`.
"""

import re
from enum import StrEnum

from twinlock.keys.ports import Corrupt, Denied, Misconfigured, Unavailable, Unclear
from twinlock.vaults.verdicts import Fault, Verdict

CLASSIFIER = "pkcs11/1"
_VENDOR_DEFINED = 1 << 31
_KIND = re.compile(r"[A-Za-z]{1,40}")  # of an exception in the library's process


class Reason(StrEnum):
    """Every reason for which a call to a token fails."""

    NO_ANSWER = "no-answer"
    CRASHED = "library-crashed"
    STARTING = "library-starting"
    RESTARTING = "library-restarting"
    BUSY = "token-busy"
    NO_TOKEN = "no-token"  # noqa: S105 - a reason, no secret
    TROUBLE = "token-trouble"
    SHORT = "resources-short"
    STALE = "handle-stale"
    DESTROYED = "key-destroyed"
    SWITCHED_OFF = "key-switched-off"
    GONE = "key-gone"
    REPLACED = "key-replaced"
    VERSION_GONE = "version-gone"
    FORBIDDEN = "function-not-permitted"
    REJECTED = "function-rejected"
    UNKNOWN_KEY = "key-unknown"
    WRONG_TYPE = "key-wrong-type"
    WRONG_SIZE = "payload-wrong-size"
    WRONG_PURPOSE = "key-not-ours"
    AMBIGUOUS = "key-ambiguous"
    NOT_SET_UP = "token-not-set-up"
    OTHER_TOKEN = "token-other"  # noqa: S105 - a reason, no secret
    SEVERAL_TOKENS = "tokens-several"
    MODULE = "module-unusable"
    NO_FILE = "file-unreadable"
    OURS = "own-fault"
    PIN = "pin-refused"
    LAST_TRY = "pin-last-try"
    SETUP = "setup"
    NOT_DECRYPTED = "decrypt-failed"
    UNTOLD = "cause-untold"
    VENDOR = "vendor-defined"
    UNKNOWN = "unknown-answer"


VERDICTS = {
    Reason.NO_ANSWER: Verdict(Unavailable, "the token did not answer in time", counts=True),
    Reason.CRASHED: Verdict(Unavailable, "the token's library crashed", counts=True),
    Reason.NO_TOKEN: Verdict(Unavailable, "the token is not there", counts=True),
    Reason.TROUBLE: Verdict(Unavailable, "the token answers with a fault of its own", counts=True),
    # law 5: our own queue, our own pauses and what this host is short of are no evidence
    Reason.STARTING: Verdict(Unavailable, "the process of the token's library is starting"),
    Reason.RESTARTING: Verdict(Unavailable, "the token's library crashed, and is started again in a moment"),
    Reason.BUSY: Verdict(Unavailable, "others' calls to the token are waiting"),
    Reason.SHORT: Verdict(Unavailable, "memory or sessions of the token, or of this host, are used up"),
    Reason.STALE: Verdict(Unavailable, "the key moved on its token during the call"),
    Reason.DESTROYED: Verdict(Denied, "the key is destroyed", exact=True),
    Reason.SWITCHED_OFF: Verdict(Denied, "the key may not be used: its owner switched it off", exact=True),
    # a wrapped key proves that the key existed, but a token that was put in its place looks the same
    Reason.GONE: Verdict(Denied, "the key is gone"),
    Reason.REPLACED: Verdict(Denied, "the key was deleted and made again", exact=True),
    Reason.VERSION_GONE: Verdict(Denied, "this version of the key is gone", exact=True),
    # the key itself says nothing of it: our user may have lost a right
    Reason.FORBIDDEN: Verdict(Denied, "the token does not permit this use of the key"),
    Reason.REJECTED: Verdict(Denied, "the token rejected the use of the key"),
    Reason.UNKNOWN_KEY: Verdict(Misconfigured, "no key on the token has this label"),
    Reason.WRONG_TYPE: Verdict(Misconfigured, "the key is not an AES-256 key"),
    Reason.WRONG_SIZE: Verdict(Misconfigured, "what is wrapped is 64 bytes long, in a context of some hundred"),
    Reason.WRONG_PURPOSE: Verdict(Misconfigured, "the key was not made here as an availability key"),
    Reason.AMBIGUOUS: Verdict(Misconfigured, "keys with this label have the same CKA_ID, or none"),
    Reason.NOT_SET_UP: Verdict(Misconfigured, "no such token is set up: name it in pkcs11.tokens"),
    Reason.OTHER_TOKEN: Verdict(Misconfigured, "the token's serial number or slot is not the one in the settings"),
    Reason.SEVERAL_TOKENS: Verdict(Misconfigured, "several tokens have this label: set serial in pkcs11.tokens"),
    Reason.MODULE: Verdict(Misconfigured, "the token's library can't be loaded"),
    Reason.NO_FILE: Verdict(Misconfigured, "the file of the token's PIN can't be read"),
    Reason.OURS: Verdict(Misconfigured, "the process of the token's library can't be started"),
    Reason.PIN: Verdict(Misconfigured, "the token refuses our PIN, which is not tried again until its file changes"),
    Reason.LAST_TRY: Verdict(Misconfigured, "the token has one try left for its PIN, which is left to a person"),
    Reason.SETUP: Verdict(Misconfigured, "the token can't do what is asked, or is not set up"),
    Reason.NOT_DECRYPTED: Verdict(Corrupt, "the bytes do not decrypt"),
    Reason.UNTOLD: Verdict(Unclear, "the token does not say whether the fault is its own or the bytes'"),
    Reason.VENDOR: Verdict(Unclear, "the token gave an answer that only its vendor knows"),
    Reason.UNKNOWN: Verdict(Unclear, "the token gave an unknown answer"),
}

CODES = {
    0x002: Reason.SHORT,  # HOST_MEMORY
    0x003: Reason.SETUP,  # SLOT_ID_INVALID
    0x005: Reason.TROUBLE,  # GENERAL_ERROR
    0x006: Reason.TROUBLE,  # FUNCTION_FAILED
    0x020: Reason.NOT_DECRYPTED,  # DATA_INVALID
    0x030: Reason.TROUBLE,  # DEVICE_ERROR
    0x031: Reason.SHORT,  # DEVICE_MEMORY
    0x032: Reason.NO_TOKEN,  # DEVICE_REMOVED
    0x040: Reason.NOT_DECRYPTED,  # ENCRYPTED_DATA_INVALID
    0x060: Reason.STALE,  # KEY_HANDLE_INVALID
    0x068: Reason.FORBIDDEN,  # KEY_FUNCTION_NOT_PERMITTED
    0x070: Reason.SETUP,  # MECHANISM_INVALID
    0x082: Reason.STALE,  # OBJECT_HANDLE_INVALID
    0x0A0: Reason.PIN,  # PIN_INCORRECT
    0x0A2: Reason.PIN,  # PIN_LEN_RANGE
    0x0A3: Reason.PIN,  # PIN_EXPIRED
    0x0A4: Reason.PIN,  # PIN_LOCKED
    0x0B0: Reason.TROUBLE,  # SESSION_CLOSED
    0x0B1: Reason.SHORT,  # SESSION_COUNT
    0x0B3: Reason.TROUBLE,  # SESSION_HANDLE_INVALID
    0x0E0: Reason.NO_TOKEN,  # TOKEN_NOT_PRESENT
    0x0E1: Reason.SETUP,  # TOKEN_NOT_RECOGNIZED
    0x0F0: Reason.STALE,  # UNWRAPPING_KEY_HANDLE_INVALID
    0x101: Reason.TROUBLE,  # USER_NOT_LOGGED_IN
    0x102: Reason.PIN,  # USER_PIN_NOT_INITIALIZED
    0x103: Reason.SETUP,  # USER_TYPE_INVALID
    0x110: Reason.NOT_DECRYPTED,  # WRAPPED_KEY_INVALID
    0x190: Reason.TROUBLE,  # CRYPTOKI_NOT_INITIALIZED
    0x200: Reason.REJECTED,  # FUNCTION_REJECTED
}
# What the library's process may say in its own words.
SAID = (
    Reason.NO_TOKEN,
    Reason.OTHER_TOKEN,
    Reason.SEVERAL_TOKENS,
    Reason.MODULE,
    Reason.LAST_TRY,
    Reason.UNTOLD,
    Reason.NOT_DECRYPTED,
    Reason.AMBIGUOUS,
    Reason.WRONG_PURPOSE,
    Reason.STALE,
    Reason.BUSY,
)


class VaultFault(Fault[Reason]):
    """Carry a reason, and what was answered, up to the seam."""


def reason_of(code: int) -> Reason:
    """Say what a library's code means."""
    if code >= _VENDOR_DEFINED:
        return Reason.VENDOR
    return CODES.get(code, Reason.UNKNOWN)


def fault_in(said: object) -> VaultFault:
    """Return the fault that the process of a library tells; whatever it says, it is one."""
    found = said if isinstance(said, dict) else {}
    code, name = found.get("code"), found.get("reason")
    if type(code) is int and 0 < code < 1 << 64:
        return VaultFault(reason_of(code), f"0x{code:x}")
    if isinstance(name, str) and name in SAID:
        return VaultFault(Reason(name))
    kind = found.get("kind")
    return VaultFault(Reason.UNKNOWN, kind if isinstance(kind, str) and _KIND.fullmatch(kind) else "")
