"""Which reason an answer of AWS KMS or STS stands for: by its code, for a few codes by its message, then by its status.

Messages are compared in lower case; of several texts the first that fits decides.
"""

from collections.abc import Mapping

from twinlock.vaults.aws.reasons import Reason

Texts = tuple[tuple[str, Reason], ...]

# External key stores: they say what went wrong in the message alone, and with either of two codes.
_EXTERNAL: Texts = (
    ("did not respond in time", Reason.KEY_STORE_AWAY),
    ("cannot communicate with the external key store proxy", Reason.KEY_STORE_AWAY),
    ("cannot communicate with the external key manager", Reason.KEY_STORE_AWAY),
    ("very high request rate", Reason.LIMITED),
    ("tls connection", Reason.KEY_STORE_AWAY),
    ("is not enabled", Reason.EXTERNAL_DENIED),
    ("was not found in its external key manager", Reason.EXTERNAL_DENIED),
    ("denied access to the operation", Reason.EXTERNAL_DENIED),
    ("could not authenticate aws kms", Reason.KEY_STORE_FAULTY),
    ("invalid uri path", Reason.KEY_STORE_FAULTY),
    ("cannot interpret the response", Reason.KEY_STORE_FAULTY),
    ("encryption context is corrupted", Reason.NOT_DECRYPTED),
)
_STATES: Texts = (
    ("is pending deletion", Reason.DELETED),
    ("pending replica deletion", Reason.DELETED),
    ("is pending import", Reason.NO_MATERIAL),
    *_EXTERNAL,
    ("is unavailable", Reason.KEY_STORE_CLOSED),
    ("is not connected", Reason.KEY_STORE_CLOSED),
    ("is disabled", Reason.DISABLED),
)
# Of whose identity it is that may not, only the caller knows: see `reason_of`.
_PERMISSIONS: Texts = (
    ("resource control policy", Reason.FORBIDDEN),
    ("identity-based polic", Reason.FORBIDDEN_TO_US),
    ("permissions boundary", Reason.FORBIDDEN_TO_US),
    ("service control policy", Reason.FORBIDDEN_TO_US),
    ("session policy", Reason.REQUEST_BAD),
    ("vpc endpoint policy", Reason.REQUEST_BAD),
    ("resource-based polic", Reason.FORBIDDEN),
    ("does not exist", Reason.FORBIDDEN),
)
_BY_TEXT: Mapping[str, tuple[Texts, Reason]] = {
    "DisabledException": ((("is pending deletion", Reason.DELETED),), Reason.DISABLED),
    "KMSInvalidStateException": (_STATES, Reason.UNKNOWN),
    "KMSInternalException": (_EXTERNAL, Reason.SERVER_FAULT),
    "AccessDeniedException": (_PERMISSIONS, Reason.FORBIDDEN_UNSAID),
    "AccessDenied": (_PERMISSIONS, Reason.FORBIDDEN_UNSAID),
}
_BY_CODE: Mapping[str, Reason] = {
    "NotFoundException": Reason.UNKNOWN_KEY,
    "KeyUnavailableException": Reason.SERVER_FAULT,
    "DependencyTimeoutException": Reason.SERVER_FAULT,
    "InternalFailure": Reason.SERVER_FAULT,
    "InternalServerError": Reason.SERVER_FAULT,
    "ServiceUnavailable": Reason.SERVER_FAULT,
    "ServiceUnavailableException": Reason.SERVER_FAULT,
    "RequestTimeout": Reason.NO_ANSWER,
    "ThrottlingException": Reason.LIMITED,
    "Throttling": Reason.LIMITED,
    "ThrottledException": Reason.LIMITED,
    "RequestLimitExceeded": Reason.LIMITED,
    "TooManyRequestsException": Reason.LIMITED,
    "InvalidCiphertextException": Reason.NOT_DECRYPTED,
    "IncorrectKeyException": Reason.NOT_DECRYPTED,
    "InvalidKeyUsageException": Reason.WRONG_TYPE,
    "UnsupportedOperationException": Reason.WRONG_TYPE,
    "InvalidArnException": Reason.REQUEST_BAD,
    "InvalidGrantTokenException": Reason.REQUEST_BAD,  # we send none
    "ValidationException": Reason.REQUEST_BAD,
    "ValidationError": Reason.REQUEST_BAD,
    "LimitExceededException": Reason.LIMIT_REACHED,
    "AlreadyExistsException": Reason.ALIAS_TAKEN,
    "ExpiredToken": Reason.SESSION_OVER,
    "ExpiredTokenException": Reason.SESSION_OVER,
    "UnrecognizedClientException": Reason.SESSION_OVER,
    "InvalidClientTokenId": Reason.SESSION_OVER,
    "SignatureDoesNotMatch": Reason.IDENTITY_BAD,
    "InvalidSignatureException": Reason.IDENTITY_BAD,
    "IncompleteSignature": Reason.IDENTITY_BAD,
    "IncompleteSignatureException": Reason.IDENTITY_BAD,
    "MissingAuthenticationToken": Reason.IDENTITY_BAD,
    "MissingAuthenticationTokenException": Reason.IDENTITY_BAD,
    "RequestExpired": Reason.IDENTITY_BAD,
    "RequestTimeTooSkewed": Reason.IDENTITY_BAD,
    "OptInRequired": Reason.IDENTITY_BAD,
    "SubscriptionRequiredException": Reason.IDENTITY_BAD,
    "RegionDisabledException": Reason.IDENTITY_BAD,
    "MalformedPolicyDocument": Reason.IDENTITY_BAD,
    "PackedPolicyTooLarge": Reason.IDENTITY_BAD,
    "UnknownOperationException": Reason.ADDRESS,
}
_BY_STATUS: Mapping[int, Reason] = {408: Reason.NO_ANSWER, 429: Reason.LIMITED}


def reason_of(status: int, code: str, message: str, *, role_is_theirs: bool = False) -> Reason:
    """Say what an answer that is no success means.

    Where our role belongs to the key's own account, what it may do is up to whoever owns the key.
    """
    reason = _by_code(code, message.lower())
    if reason is Reason.FORBIDDEN_TO_US and role_is_theirs:
        return Reason.FORBIDDEN
    return reason or _by_status(status)


def reason_of_login(status: int, code: str, message: str) -> Reason:
    """Say what it means that a role could not be taken on: who refuses it may be either side."""
    reason = reason_of(status, code, message)
    refused = (Reason.FORBIDDEN, Reason.FORBIDDEN_TO_US, Reason.FORBIDDEN_UNSAID, Reason.UNKNOWN_KEY)
    if reason in refused or (reason is Reason.REQUEST_BAD and code.startswith("AccessDenied")):
        return Reason.ROLE_REFUSED
    return Reason.IDENTITY_BAD if reason is Reason.SESSION_OVER else reason


def _by_code(code: str, said: str) -> Reason | None:
    if code not in _BY_TEXT:
        return _BY_CODE.get(code)
    texts, otherwise = _BY_TEXT[code]
    return next((reason for text, reason in texts if text in said), otherwise)


def _by_status(status: int) -> Reason:
    if 300 <= status < 400:
        return Reason.ADDRESS  # nothing of ours is sent on to another place
    return _BY_STATUS.get(status, Reason.SERVER_FAULT if 500 <= status < 600 else Reason.UNKNOWN)
