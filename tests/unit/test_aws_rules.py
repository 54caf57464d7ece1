"""What AWS answers is of the class that the rules give it: one case for each row of the table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinlock.keys.ports import Corrupt, Denied, Misconfigured, Unavailable, Unclear, VaultFailure
from twinlock.vaults.aws.classify import classify
from twinlock.vaults.aws.reasons import VERDICTS, Reason, VaultFault
from twinlock.vaults.aws.rules import reason_of, reason_of_login

URI = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
STATE, ACCESS, INTERNAL = "KMSInvalidStateException", "AccessDeniedException", "KMSInternalException"
USER = "User: arn:aws:sts::111122223333:assumed-role/twinlock/x is not authorized to perform: kms:Decrypt"
CLASSES = (Unavailable, Denied, Unclear, Misconfigured, Corrupt)

ROWS = [
    ("DisabledException", f"{URI} is disabled.", Denied, True),
    ("DisabledException", f"{URI} is pending deletion.", Denied, True),
    (STATE, f"{URI} is pending deletion.", Denied, True),
    (STATE, f"{URI} is pending replica deletion.", Denied, True),
    (STATE, f"{URI} is pending import.", Denied, False),
    (STATE, f"{URI} is unavailable.", Unclear, False),
    (STATE, "The custom key store is not connected", Unclear, False),
    (STATE, "The external key store proxy did not respond in time. Retry the request.", Unavailable, False),
    (STATE, "AWS KMS cannot communicate with the external key store proxy.", Unavailable, False),
    (STATE, "The proxy rejected the request due to a very high request rate.", Unavailable, False),
    (STATE, "The proxy cannot communicate with the external key manager.", Unavailable, False),
    (STATE, "AWS KMS cannot establish a TLS connection to the external key store proxy.", Unavailable, False),
    (INTERNAL, "The external key store proxy did not respond in time.", Unavailable, False),
    (STATE, "The specified external key is not enabled.", Denied, False),
    (STATE, "The external key was not found in its external key manager.", Denied, False),
    (STATE, "The external key manager denied access to the operation.", Denied, False),
    (STATE, "The external key store proxy could not authenticate AWS KMS.", Unclear, False),
    (STATE, "The external key store proxy rejected the request: invalid URI path.", Unclear, False),
    (STATE, "AWS KMS cannot interpret the response from the external key store proxy.", Unclear, False),
    (STATE, "The ciphertext or encryption context is corrupted.", Corrupt, False),
    (STATE, "something new", Unclear, False),
    (ACCESS, "The ciphertext refers to a customer master key that does not exist, does not exist in this region, "
     "or you are not allowed to access.", Denied, False),
    (ACCESS, f"{USER} because the resource does not exist in this Region, no resource-based policies allow access, "
     "or a resource-based policy explicitly denies access", Denied, False),
    (ACCESS, f"{USER} with an explicit deny in a resource control policy", Denied, False),
    (ACCESS, f"{USER} because no identity-based policy allows the kms:Decrypt action", Misconfigured, False),
    (ACCESS, f"{USER} with an explicit deny in an identity-based policy", Misconfigured, False),
    (ACCESS, f"{USER} with an explicit deny in a service control policy", Misconfigured, False),
    (ACCESS, f"{USER} because no VPC endpoint policy allows the kms:Decrypt action", Misconfigured, False),
    (ACCESS, "", Unclear, False),
    ("NotFoundException", f"Key '{URI}' does not exist", Misconfigured, False),
    ("InvalidGrantTokenException", "", Misconfigured, False),
    ("KeyUnavailableException", "", Unavailable, False),
    ("DependencyTimeoutException", "", Unavailable, False),
    (INTERNAL, "", Unavailable, False),
    ("ThrottlingException", "You have exceeded the rate at which you may call KMS", Unavailable, False),
    ("InvalidCiphertextException", "", Corrupt, False),
    ("IncorrectKeyException", "", Corrupt, False),
    ("InvalidKeyUsageException", "", Misconfigured, False),
    ("InvalidArnException", "", Misconfigured, False),
    ("ValidationException", "", Misconfigured, False),
    ("ExpiredTokenException", "", Misconfigured, False),
    ("UnrecognizedClientException", "", Misconfigured, False),
    ("InvalidClientTokenId", "", Misconfigured, False),
    ("SignatureDoesNotMatch", "", Misconfigured, False),
    ("IncompleteSignature", "", Misconfigured, False),
    ("OptInRequired", "", Misconfigured, False),
    ("RequestTimeTooSkewed", "", Misconfigured, False),
    ("SomethingNewException", "", Unclear, False),
]  # fmt: skip
# What puts us off, and says nothing about the vault (law 5).
PUT_OFF = ("very high request rate", "exceeded the rate")


@pytest.mark.parametrize(("code", "message", "kind", "exact"), ROWS)
def test_rows(code: str, message: str, kind: type[VaultFailure], exact: bool) -> None:
    """A code, and for a few codes the message, decides; only an outage counts, and only the owner's act is exact."""
    failure = classify(VaultFault(reason_of(400, code, message)), URI)

    assert (kind, exact) == (type(failure), failure.exact)
    assert failure.counts == (kind is Unavailable and not any(text in message for text in PUT_OFF))


@pytest.mark.parametrize(
    ("status", "kind", "counts"),
    [
        (500, Unavailable, True),
        (502, Unavailable, True),
        (503, Unavailable, True),
        (504, Unavailable, True),
        (408, Unavailable, True),
        (429, Unavailable, False),
        (307, Misconfigured, False),
        (403, Unclear, False),
        (418, Unclear, False),
    ],
)
def test_statuses(status: int, kind: type[VaultFailure], counts: bool) -> None:
    """Where the code says nothing the status does, and never that anybody denied."""
    failure = classify(VaultFault(reason_of(status, str(status), "")), URI)

    assert (kind, counts) == (type(failure), failure.counts)


def test_their_role() -> None:
    """What a role of the key's own account may do is up to the key's owner, whichever of their policies it is."""
    for text in ("no identity-based policy allows it", "an explicit deny in a service control policy"):
        assert Reason.FORBIDDEN is reason_of(400, ACCESS, text, role_is_theirs=True)
        assert Reason.FORBIDDEN_TO_US is reason_of(400, ACCESS, text)


@pytest.mark.parametrize(
    ("status", "code", "message", "kind"),
    [
        (403, "AccessDenied", f"{USER} on resource: arn:aws:iam::111122223333:role/twinlock", Unclear),
        (403, "AccessDenied", "because no identity-based policy allows the sts:AssumeRole action", Unclear),
        (403, "AccessDenied", "with an explicit deny in a VPC endpoint policy", Unclear),
        (403, "ExpiredToken", "", Misconfigured),
        (403, "InvalidClientTokenId", "", Misconfigured),
        (403, "SignatureDoesNotMatch", "", Misconfigured),
        (403, "RegionDisabledException", "", Misconfigured),
        (400, "ValidationError", "", Misconfigured),
        (400, "Throttling", "", Unavailable),
        (503, "ServiceUnavailable", "", Unavailable),
    ],
)
def test_login(status: int, code: str, message: str, kind: type[VaultFailure]) -> None:
    """A role that is refused may be either side's act, and our own identity is ours."""
    assert kind is type(classify(VaultFault(reason_of_login(status, code, message)), URI))


@pytest.mark.parametrize("reason", Reason)
def test_every_reason(reason: Reason) -> None:
    """Every reason has its verdict: only an outage counts (law 5), and only a denial is exact."""
    failure = classify(VaultFault(reason), URI)

    assert isinstance(failure, CLASSES)
    assert not failure.exact or isinstance(failure, Denied)
    assert failure.counts == (
        reason in (Reason.NO_ANSWER, Reason.UNREACHABLE, Reason.SERVER_FAULT, Reason.KEY_STORE_AWAY)
    )
    assert set(Reason) == set(VERDICTS)


CODES = st.one_of(st.text(max_size=40), st.sampled_from([row[0] for row in ROWS]))
MESSAGES = st.one_of(st.text(max_size=80), st.sampled_from([row[1] for row in ROWS]))


@given(st.integers(0, 999), CODES, MESSAGES, st.booleans())
def test_any_answer(status: int, code: str, message: str, theirs: bool) -> None:
    """Every status with every code and message is of one class, at KMS and at STS."""
    for reason in (reason_of(status, code, message, role_is_theirs=theirs), reason_of_login(status, code, message)):
        assert isinstance(classify(VaultFault(reason), URI), CLASSES)


FOREIGN = [ValueError("x"), KeyError("secret"), MemoryError(), OSError(24, "x"), ExceptionGroup("x", [ValueError()])]


@pytest.mark.parametrize("fault", FOREIGN, ids=repr)
def test_any_exception(fault: Exception) -> None:
    """Every exception is of one class, and its text, which may quote what was sent, is not told."""
    failure = classify(fault, URI)

    assert isinstance(failure, Unclear | Misconfigured)
    assert "secret" not in repr(failure.__dict__)
