"""What the answers of AWS KMS and STS mean: every reason for a failure, its class, and how it is recognised.

An answer that is no success has a code and a message, mostly with the status 400 whatever is wrong. The code decides,
and for a few codes the message does. Change the rules together with `CLASSIFIER`.
"""

from enum import StrEnum

from twinlock.keys.ports import Corrupt, Denied, Misconfigured, Unavailable, Unclear
from twinlock.vaults.verdicts import Fault, Verdict

CLASSIFIER = "aws/1"


class Reason(StrEnum):
    """Every reason for which a call to AWS KMS fails."""

    NO_ANSWER = "no-answer"
    UNREACHABLE = "unreachable"
    SERVER_FAULT = "server-fault"
    KEY_STORE_AWAY = "key-store-away"
    LIMITED = "rate-limited"
    BUSY = "connections-in-use"
    IDENTITY_SLOW = "identity-slow"
    DISABLED = "key-disabled"
    DELETED = "key-pending-deletion"
    NO_MATERIAL = "key-pending-import"
    MATERIAL_EXPIRED = "key-material-expired"
    EXTERNAL_DENIED = "external-key-denied"
    GONE = "key-gone"
    REPLACED = "key-replaced"
    VERSION_GONE = "version-gone"
    FORBIDDEN = "permission-denied"
    FORBIDDEN_UNSAID = "permission-denied-without-cause"
    FORBIDDEN_TO_US = "own-permission-denied"
    KEY_STORE_CLOSED = "key-store-closed"
    KEY_STORE_FAULTY = "key-store-faulty"
    NOT_READY = "key-not-ready"
    NOT_SETTLED = "key-not-settled"
    ROLE_REFUSED = "role-refused"
    UNKNOWN_KEY = "key-unknown"
    UNKNOWN_HOST = "host-unknown"
    WRONG_TYPE = "key-wrong-type"
    WRONG_SIZE = "payload-wrong-size"
    NO_ACCOUNT = "no-account"
    NO_IDENTITY = "no-identity"
    IDENTITY_BAD = "identity-refused"
    SESSION_OVER = "session-over"
    LIMIT_REACHED = "limit-reached"
    REQUEST_BAD = "request-refused"
    OURS = "own-fault"
    CERTIFICATE = "certificate"
    NOT_TLS = "not-tls"
    ADDRESS = "address"
    NOT_DECRYPTED = "decrypt-failed"
    ALIAS_TAKEN = "alias-taken"
    UNKNOWN = "unknown-answer"


VERDICTS = {
    Reason.NO_ANSWER: Verdict(Unavailable, "the vault did not answer in time", counts=True),
    Reason.UNREACHABLE: Verdict(Unavailable, "the vault can't be reached", counts=True),
    Reason.SERVER_FAULT: Verdict(Unavailable, "the vault answers with a fault of its own", counts=True),
    Reason.KEY_STORE_AWAY: Verdict(Unavailable, "the key's external key store does not answer", counts=True),
    # law 5: a limit, our own queue and our own identity are no evidence
    Reason.LIMITED: Verdict(Unavailable, "the vault limits our requests"),
    Reason.BUSY: Verdict(Unavailable, "all connections to the vault are in use"),
    Reason.IDENTITY_SLOW: Verdict(Unavailable, "our own identity could not be fetched in time"),
    Reason.DISABLED: Verdict(Denied, "the key is disabled", exact=True),
    Reason.DELETED: Verdict(Denied, "the key is pending deletion, which can be cancelled", exact=True),
    # material that has expired looks the same where the vault no longer shows that it would: worth a second look
    Reason.NO_MATERIAL: Verdict(Denied, "the key's imported material was deleted"),
    Reason.MATERIAL_EXPIRED: Verdict(Unclear, "the key's imported material has expired"),
    Reason.EXTERNAL_DENIED: Verdict(Denied, "the external key is disabled, gone or refused"),
    # a wrapped key proves that the key existed, but a change that has not reached every server looks the same
    Reason.GONE: Verdict(Denied, "the key is gone"),
    Reason.REPLACED: Verdict(Denied, "the key is another one than the one that wrapped", exact=True),
    Reason.VERSION_GONE: Verdict(Denied, "the key never had this version", exact=True),
    # our identity is good, and just this is refused
    Reason.FORBIDDEN: Verdict(Denied, "we may not use the key", of_permission=True),
    Reason.FORBIDDEN_UNSAID: Verdict(
        Unclear, "we may not use the key, and the vault does not say why", of_permission=True
    ),
    Reason.FORBIDDEN_TO_US: Verdict(Misconfigured, "our own identity is not allowed to use the key"),
    # the customer runs these key stores: to disconnect one may be meant
    Reason.KEY_STORE_CLOSED: Verdict(Unclear, "the key's custom key store is disconnected"),
    Reason.KEY_STORE_FAULTY: Verdict(Unclear, "the key's external key store does not work with AWS KMS"),
    Reason.NOT_READY: Verdict(Unclear, "the key is still being made"),
    Reason.NOT_SETTLED: Verdict(Unclear, "the vault says that the key is there, and that it is not"),
    Reason.ROLE_REFUSED: Verdict(Unclear, "we may not take on our role in the key's account", of_permission=True),
    Reason.UNKNOWN_KEY: Verdict(Misconfigured, "no key has this ARN"),
    Reason.UNKNOWN_HOST: Verdict(Unclear, "the vault's name can't be resolved"),
    Reason.WRONG_TYPE: Verdict(Misconfigured, "the key is not a symmetric key of the customer's to encrypt with"),
    Reason.WRONG_SIZE: Verdict(Misconfigured, "what is wrapped is 64 bytes long"),
    Reason.NO_ACCOUNT: Verdict(Misconfigured, "this account is not set up: name it in aws.accounts"),
    Reason.NO_IDENTITY: Verdict(Misconfigured, "we have no identity at AWS: set aws.credentials_file"),
    Reason.IDENTITY_BAD: Verdict(Misconfigured, "our identity is refused"),
    Reason.SESSION_OVER: Verdict(Misconfigured, "our session is refused"),
    Reason.LIMIT_REACHED: Verdict(Misconfigured, "our account has reached a limit of the vault's"),
    Reason.REQUEST_BAD: Verdict(Misconfigured, "the vault does not take our request"),
    Reason.OURS: Verdict(Misconfigured, "this process can't open a connection"),
    Reason.CERTIFICATE: Verdict(Misconfigured, "the vault's certificate is not trusted"),
    Reason.NOT_TLS: Verdict(Misconfigured, "the vault and we do not agree on TLS"),
    Reason.ADDRESS: Verdict(Misconfigured, "what answers at this address is not the vault"),
    Reason.NOT_DECRYPTED: Verdict(Corrupt, "the bytes do not decrypt"),
    Reason.ALIAS_TAKEN: Verdict(Misconfigured, "the availability key's alias is taken"),
    Reason.UNKNOWN: Verdict(Unclear, "the vault gave an unknown answer"),
}


class VaultFault(Fault[Reason]):
    """Carry a reason, and what was answered, up to the seam."""
