"""What an OpenBao server's answers mean: every reason for a failure, its class, and how it is recognised.

The server gives a status and texts, `{"errors": [...]}`. The texts decide before the status does: bytes that an RSA key
does not decrypt are answered with 500, for example. Change the rules together with `CLASSIFIER`.
"""

from enum import StrEnum

from twinlock.keys.ports import Corrupt, Denied, Misconfigured, Unavailable, Unclear
from twinlock.vaults.verdicts import Fault, Verdict

CLASSIFIER = "openbao/1"


class Reason(StrEnum):
    """Every reason for which a call to OpenBao fails."""

    NO_ANSWER = "no-answer"
    UNREACHABLE = "unreachable"
    SERVER_FAULT = "server-fault"
    LIMITED = "rate-limited"
    NOT_NOW = "not-now"
    BUSY = "connections-in-use"
    SEALED = "sealed"
    NOT_INITIALISED = "not-initialised"
    LOCKED = "namespace-locked"
    DELETED = "key-soft-deleted"
    GONE = "key-gone"
    REPLACED = "key-replaced"
    VERSION_REFUSED = "version-refused"
    VERSION_GONE = "version-gone"
    FORBIDDEN = "permission-denied"
    TOKEN_LOST = "token-lost"  # noqa: S105 - a reason, no secret
    TOKEN_BAD = "token-refused"  # noqa: S105 - a reason, no secret
    LOGIN_REFUSED = "login-refused"
    LOGIN_GONE = "login-gone"
    MOUNT_GONE = "mount-gone"
    UNKNOWN_KEY = "key-unknown"
    UNKNOWN_HOST = "host-unknown"
    WRONG_TYPE = "key-wrong-type"
    WRONG_SIZE = "payload-wrong-size"
    NO_LOGIN = "no-login"
    NO_FILE = "file-unreadable"
    OURS = "own-fault"
    CERTIFICATE = "certificate"
    NOT_TLS = "not-tls"
    ADDRESS = "address"
    NOT_DECRYPTED = "decrypt-failed"
    UNKNOWN = "unknown-answer"


VERDICTS = {
    Reason.NO_ANSWER: Verdict(Unavailable, "the vault did not answer in time", counts=True),
    Reason.UNREACHABLE: Verdict(Unavailable, "the vault can't be reached", counts=True),
    Reason.SERVER_FAULT: Verdict(Unavailable, "the vault answers with a fault of its own", counts=True),
    # law 5: answers that only put off, and our own queue, are no evidence
    Reason.LIMITED: Verdict(Unavailable, "the vault limits our requests"),
    Reason.NOT_NOW: Verdict(Unavailable, "this node of the vault can't answer now"),
    Reason.BUSY: Verdict(Unavailable, "all connections to the vault are in use"),
    # the customer runs the server: sealing it may be meant
    Reason.SEALED: Verdict(Unclear, "the vault is sealed"),
    Reason.NOT_INITIALISED: Verdict(Unclear, "the vault is not initialised"),
    Reason.LOCKED: Verdict(Denied, "the key's namespace is locked", exact=True),
    Reason.DELETED: Verdict(Denied, "the key is deleted, and can be restored", exact=True),
    # a wrapped key proves that the key existed, but a wrong mount looks the same: worth a second look
    Reason.GONE: Verdict(Denied, "the key is gone"),
    Reason.REPLACED: Verdict(Denied, "the key was deleted and made again", exact=True),
    Reason.VERSION_REFUSED: Verdict(Denied, "this version of the key may not decrypt any more", exact=True),
    Reason.VERSION_GONE: Verdict(Denied, "this version of the key is gone", exact=True),
    # our token is good, and just this is refused
    Reason.FORBIDDEN: Verdict(Denied, "our login may not use the key"),
    Reason.TOKEN_LOST: Verdict(Unclear, "our token was good, and is refused before its end"),
    Reason.TOKEN_BAD: Verdict(Misconfigured, "our token is refused"),
    Reason.LOGIN_REFUSED: Verdict(Misconfigured, "our login is refused"),
    Reason.LOGIN_GONE: Verdict(Unclear, "the place where we log in is gone or closed"),
    Reason.MOUNT_GONE: Verdict(Unclear, "the key's mount is gone or hidden"),
    Reason.UNKNOWN_KEY: Verdict(Misconfigured, "no key has this name"),
    Reason.UNKNOWN_HOST: Verdict(Unclear, "the vault's name can't be resolved"),
    Reason.WRONG_TYPE: Verdict(Misconfigured, "the key is neither RSA nor aes256-gcm96, or it is derived"),
    Reason.WRONG_SIZE: Verdict(Misconfigured, "what is wrapped is 64 bytes long"),
    Reason.NO_LOGIN: Verdict(Misconfigured, "no login is set up for this server: name it in openbao.servers"),
    Reason.NO_FILE: Verdict(Misconfigured, "a file of our login, or of the trusted certificates, can't be read"),
    Reason.OURS: Verdict(Misconfigured, "this process can't open a connection"),
    Reason.CERTIFICATE: Verdict(Misconfigured, "the vault's certificate is not trusted"),
    Reason.NOT_TLS: Verdict(Misconfigured, "the vault and we do not agree on TLS"),
    Reason.ADDRESS: Verdict(Misconfigured, "what answers at this address is not the vault"),
    Reason.NOT_DECRYPTED: Verdict(Corrupt, "the bytes do not decrypt"),
    Reason.UNKNOWN: Verdict(Unclear, "the vault gave an unknown answer"),
}

# The first that fits decides. Texts are compared in lower case.
_TEXTS = (
    ("has been locked by an administrator", Reason.LOCKED),
    ("is sealed", Reason.SEALED),
    ("soft-deleted key", Reason.DELETED),
    ("encryption key not found", Reason.GONE),
    ("disallowed by policy (too old)", Reason.VERSION_REFUSED),
    ("invalid ciphertext", Reason.NOT_DECRYPTED),
    ("message authentication failed", Reason.NOT_DECRYPTED),
    ("failed to rsa decrypt", Reason.NOT_DECRYPTED),
    ("missing ciphertext", Reason.NOT_DECRYPTED),
    ("for non-aead cipher suite", Reason.NOT_DECRYPTED),
    ("quota exceeded", Reason.LIMITED),
    ("unknown key type", Reason.UNKNOWN_KEY),
    ("not supported for key type", Reason.WRONG_TYPE),
    ("for key derivation", Reason.WRONG_TYPE),
    ("invalid role or secret id", Reason.LOGIN_REFUSED),
    ("invalid credentials", Reason.LOGIN_REFUSED),
    ("wrapping token is not valid", Reason.LOGIN_REFUSED),
    ("http request to an https server", Reason.NOT_TLS),
    ("no handler for route", Reason.MOUNT_GONE),
)

_STATUSES = {
    401: Reason.TOKEN_BAD,
    403: Reason.FORBIDDEN,
    404: Reason.MOUNT_GONE,
    405: Reason.ADDRESS,
    408: Reason.NO_ANSWER,
    412: Reason.NOT_NOW,
    429: Reason.LIMITED,
    472: Reason.NOT_NOW,
    473: Reason.NOT_NOW,
    501: Reason.NOT_INITIALISED,
}
# Whoever may not read is told nothing about the key: what is refused so is the login, whatever else is said.
_STATUS_FIRST = (401, 403, 429)


class VaultFault(Fault[Reason]):
    """Carry a reason, and what was answered, up to the seam."""


def reason_of(status: int, errors: tuple[str, ...] | None) -> Reason:
    """Say what an answer that is no success means; `errors` is None where the body is not the server's own."""
    if status in _STATUS_FIRST:
        return _STATUSES[status]
    if status == 404 and errors == ():
        return Reason.UNKNOWN_KEY  # the mount answers, and has no such key
    said = "\n".join(errors or ()).lower()
    for text, reason in _TEXTS:
        if text in said:
            return reason
    if status in _STATUSES:
        return _STATUSES[status]
    if 300 <= status < 400:
        return Reason.ADDRESS  # a token is never sent on to another place
    return Reason.SERVER_FAULT if 500 <= status < 600 else Reason.UNKNOWN
