"""What Azure's answers mean: every reason for a failure, its class, and how it is recognised.

The rules are in `rules.py`; change either together with `CLASSIFIER`.
"""

from enum import StrEnum

from twinlock.keys.ports import Corrupt, Denied, Misconfigured, Unavailable, Unclear
from twinlock.vaults.verdicts import Fault, Verdict

CLASSIFIER = "azure/1"


class Reason(StrEnum):
    """Every reason for which a call to a vault of Azure fails."""

    NO_ANSWER = "no-answer"
    UNREACHABLE = "unreachable"
    SERVER_FAULT = "server-fault"
    LIMITED = "rate-limited"
    NOT_NOW = "deletion-under-way"
    BUSY = "connections-in-use"
    DISABLED = "key-disabled"
    SAID_DISABLED = "key-said-disabled"
    DELETED = "key-soft-deleted"
    GONE = "key-gone"
    REPLACED = "key-replaced"
    VERSION_GONE = "version-gone"
    FORBIDDEN = "permission-denied"
    NETWORK = "network-denied"
    NOT_IN_TIME = "key-not-in-time"
    UNKNOWN_KEY = "key-unknown"
    UNKNOWN_HOST = "host-unknown"
    WRONG_TYPE = "key-wrong-type"
    WRONG_SIZE = "payload-wrong-size"
    NOT_OURS = "key-not-ours"
    NO_LOGIN = "no-login"
    NO_FILE = "file-unreadable"
    NO_CONSENT = "consent-gone"
    APP_DISABLED = "application-disabled"
    LOGIN_REFUSED = "login-refused"
    TOKEN_BAD = "token-refused"  # noqa: S105 - a reason, no secret
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
    Reason.NOT_NOW: Verdict(Unavailable, "the vault is still deleting the key"),
    Reason.BUSY: Verdict(Unavailable, "all connections to the vault are in use"),
    Reason.DISABLED: Verdict(Denied, "the key is disabled", exact=True),
    # without the code, and texts change
    Reason.SAID_DISABLED: Verdict(Denied, "the key is disabled"),
    Reason.DELETED: Verdict(Denied, "the key is deleted, and can be recovered", exact=True),
    # a wrapped key proves that the key existed, but a vault made again looks the same: worth a second look
    Reason.GONE: Verdict(Denied, "the key is gone"),
    Reason.REPLACED: Verdict(Denied, "the key was deleted and made again", exact=True),
    Reason.VERSION_GONE: Verdict(Denied, "this version of the key is gone", exact=True),
    # our token is good, and just this is refused
    Reason.FORBIDDEN: Verdict(Denied, "our login may not use the key", of_permission=True),
    Reason.NO_CONSENT: Verdict(Denied, "our application is not in the key's directory any more", of_permission=True),
    Reason.APP_DISABLED: Verdict(Unclear, "our application is disabled in the key's directory"),
    # the customer's firewall, or an address of ours that has changed
    Reason.NETWORK: Verdict(Unclear, "the vault does not let our network in"),
    Reason.NOT_IN_TIME: Verdict(Unclear, "the key has expired, or is not valid yet"),
    Reason.UNKNOWN_KEY: Verdict(Misconfigured, "no key has this name"),
    # a vault that was deleted is gone from DNS
    Reason.UNKNOWN_HOST: Verdict(Unclear, "the vault's name can't be resolved"),
    Reason.WRONG_TYPE: Verdict(Misconfigured, "the key is not RSA of 2048, 3072 or 4096 bits"),
    Reason.WRONG_SIZE: Verdict(Misconfigured, "what is wrapped is 64 bytes long"),
    Reason.NOT_OURS: Verdict(Misconfigured, "the key is there already, and is no availability key"),
    Reason.NO_LOGIN: Verdict(Misconfigured, "no login is set up for the key's directory: see azure.directories"),
    Reason.NO_FILE: Verdict(Misconfigured, "a file of our login, or of the trusted certificates, can't be used"),
    Reason.LOGIN_REFUSED: Verdict(Misconfigured, "our login is refused"),
    Reason.TOKEN_BAD: Verdict(Misconfigured, "our token is refused"),
    Reason.OURS: Verdict(Misconfigured, "this process can't open a connection"),
    Reason.CERTIFICATE: Verdict(Misconfigured, "the vault's certificate is not trusted"),
    Reason.NOT_TLS: Verdict(Misconfigured, "the vault and we do not agree on TLS"),
    Reason.ADDRESS: Verdict(Misconfigured, "what answers at this address is not the vault"),
    Reason.NOT_DECRYPTED: Verdict(Corrupt, "the bytes do not decrypt"),
    Reason.UNKNOWN: Verdict(Unclear, "the vault gave an unknown answer"),
}


class VaultFault(Fault[Reason]):
    """Carry a reason, and what was answered, up to the seam."""
