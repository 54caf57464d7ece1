"""What Azure is known to say is of the class that the rules give it: one test for each row of the table."""

from typing import Any

import pytest
from azure.core.exceptions import ServiceRequestError
from hypothesis import given
from hypothesis import strategies as st

from twinlock.keys.ports import Corrupt, Denied, Misconfigured, Unavailable, Unclear, VaultFailure
from twinlock.vaults.azure.classify import classify
from twinlock.vaults.azure.reasons import VERDICTS, Reason, VaultFault
from twinlock.vaults.azure.rules import reason_of, token_reason

URI = "https://contoso.vault.azure.net/keys/root"
RBAC = "Caller is not authorized to perform action on resource. Caller: appid=7c9e. Action: 'unwrap/action'"
POLICY = "The user, group or application 'appid=7c9e' does not have keys unwrapKey permission on key vault 'contoso'."
FIREWALL = "Client address is not authorized and caller is not a trusted service. Client address: 192.0.2.7"
CLOSED = "Public network access is disabled and request is not from a trusted service nor via an approved private link."
DISABLED = "Operation unwrapKey is not allowed on a disabled key."
MISSING = "A key with (name/id) root was not found in this key vault."
EXPIRED = "Operation unwrapKey is not allowed on an expired key."

ROWS = [
    (403, "Forbidden", "KeyDisabled", DISABLED, Denied, True),
    (403, "KeyDisabled", "", "", Denied, True),
    (403, "Forbidden", "", DISABLED, Denied, False),
    (403, "Forbidden", "ForbiddenByRbac", RBAC, Denied, False),
    (403, "Forbidden", "ForbiddenByPolicy", POLICY, Denied, False),
    (403, "Forbidden", "AccessDenied", POLICY, Denied, False),
    (403, "Forbidden", "", RBAC, Denied, False),
    (403, "Forbidden", "", POLICY, Denied, False),
    (403, "Forbidden", "ForbiddenByFirewall", FIREWALL, Unclear, False),
    (403, "Forbidden", "ForbiddenByConnection", CLOSED, Unclear, False),
    (403, "Forbidden", "", FIREWALL, Unclear, False),
    (403, "Forbidden", "", CLOSED, Unclear, False),
    # the texts of networks come before those of permissions, and before their codes
    (403, "Forbidden", "", f"{RBAC} {FIREWALL}", Unclear, False),
    (403, "Forbidden", "AccessDenied", FIREWALL, Unclear, False),
    (403, "Forbidden", "", EXPIRED, Unclear, False),
    (403, "Forbidden", "", "The key is not yet valid.", Unclear, False),
    (403, "Forbidden", "SomethingNew", "Access denied.", Unclear, False),
    (403, "Forbidden", "", "", Unclear, False),
    (404, "KeyNotFound", "", MISSING, Misconfigured, False),
    (404, "ResourceNotFound", "", "", Misconfigured, False),
    (404, "NotFound", "", MISSING, Misconfigured, False),
    (404, "NotFound", "", "", Unclear, False),
    (409, "Conflict", "ObjectIsDeletedButRecoverable", "", Denied, True),
    (409, "Conflict", "ObjectIsBeingDeleted", "", Denied, True),
    (409, "Conflict", "", "", Unclear, False),
    (400, "BadParameter", "", "Unable to decrypt specified value with this key.", Corrupt, False),
    (400, "BadParameter", "", "Invalid length of 'value'", Corrupt, False),
    (400, "BadParameter", "", "Property alg has invalid value; the algorithm is not known", Misconfigured, False),
    (400, "BadParameter", "", "Content of 'value' is not base64url.", Unclear, False),
    (401, "Unauthorized", "", "AKV10032: Invalid issuer.", Misconfigured, False),
    (408, "", "", "", Unavailable, False),
    (429, "Throttled", "", "Request was not processed because too many requests were received.", Unavailable, False),
    (429, "Throttled", "KeyDisabled", DISABLED, Unavailable, False),
    (500, "InternalServerError", "", "", Unavailable, False),
    (502, "", "", "", Unavailable, False),
    (503, "", "", "", Unavailable, False),
    (504, "", "", "", Unavailable, False),
    (503, "Forbidden", "KeyDisabled", DISABLED, Unclear, False),
    (501, "", "", "", Unclear, False),
    (307, "", "", "", Misconfigured, False),
    (418, "", "", "", Unclear, False),
]


@pytest.mark.parametrize(("status", "code", "inner", "text", "kind", "exact"), ROWS)
@pytest.mark.parametrize("spelling", ["innererror", "innerError"])
def test_row(
    status: int, code: str, inner: str, text: str, kind: type[VaultFailure], exact: bool, spelling: str
) -> None:
    """A vault's answer is of its class; only an exact code is exact, and only an outage counts (law 5)."""
    error = {"code": code, "message": text, spelling: {"code": inner} if inner else None}
    failure = classify(VaultFault(reason_of(status, {"error": error})), URI)

    assert (kind, exact) == (type(failure), failure.exact)
    assert failure.counts == (kind is Unavailable and status != 429)


TOKENS = [
    (400, 700016, "Application with identifier '7c9e' was not found in the directory 'contoso'.", Denied),
    (401, 7000215, "Invalid client secret provided.", Misconfigured),
    (401, 7000222, "The provided client secret keys for app '7c9e' are expired.", Misconfigured),
    (401, 7005003, "", Misconfigured),
    (401, 7005004, "", Misconfigured),
    (401, 7005005, "", Misconfigured),
    (401, 700027, "Client assertion failed. [Reason - The key used is expired.]", Misconfigured),
    (401, 700027, "Client assertion failed. [Reason - The key was not found.]", Misconfigured),
    (401, 700027, "Client assertion contains an invalid signature.", Unclear),
    (401, 7000112, "Application is disabled.", Unclear),
    (400, 90002, "Tenant not found.", Unclear),
    (401, 0, "", Unclear),
    (429, 90055, "", Unavailable),
    (500, 90033, "A transient error has occurred.", Unavailable),
    (503, 700016, "", Unavailable),
    (504, 0, "", Unavailable),
    (302, 0, "", Misconfigured),
]


@pytest.mark.parametrize(("status", "number", "text", "kind"), TOKENS)
@pytest.mark.parametrize("listed", [True, False])
def test_token_row(status: int, number: int, text: str, kind: type[VaultFailure], listed: bool) -> None:
    """What is said in place of a token is of its class, by the number in the list or by that in the text."""
    document: dict[str, Any] = {"error": "invalid_client", "error_description": f"AADSTS{number}: {text}"}
    if listed:
        document = {**document, "error_codes": [number], "error_description": text}
    failure = classify(VaultFault(token_reason(status, document)), URI)

    assert (kind, False) == (type(failure), failure.exact)
    assert failure.counts == (kind is Unavailable and status != 429)


@pytest.mark.parametrize("reason", Reason)
def test_every_reason(reason: Reason) -> None:
    """Every reason has its verdict; only an outage counts, and only a denial is exact (law 5)."""
    verdict = VERDICTS[reason]

    assert verdict.counts == (reason in (Reason.NO_ANSWER, Reason.UNREACHABLE, Reason.SERVER_FAULT))
    assert not verdict.exact or verdict.kind is Denied


def test_wrapped_exception() -> None:
    """What the library wraps is judged by what it has wrapped, and a foreign text is not told."""
    inner = ServiceRequestError("s3cret", error=ServiceRequestError("s3cret", error=ConnectionResetError("s3cret")))
    failure = classify(inner, URI)

    assert (Unavailable, True, "unreachable ConnectionResetError") == (type(failure), failure.counts, failure.raw)


ANY = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=30)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=8,
)
CODES = st.sampled_from(["KeyDisabled", "Forbidden", "KeyNotFound", "ForbiddenByFirewall"])
ERROR = st.recursive(
    ANY,
    lambda inner: st.fixed_dictionaries(
        {"code": st.one_of(ANY, CODES)}, optional={"message": st.one_of(ANY, st.just(DISABLED)), "innererror": inner}
    ),
    max_leaves=8,
)
BODY = st.one_of(
    st.none(),
    st.dictionaries(st.text(max_size=8), ANY, max_size=3),
    st.fixed_dictionaries({"error": ERROR}, optional={"error_description": ANY, "error_codes": ANY}),
)


@given(status=st.integers(100, 599), document=BODY)
def test_any_answer(status: int, document: dict[str, Any] | None) -> None:
    """Every status with every document is of one class, and a status alone never denies."""
    for reason in (reason_of(status, document), token_reason(status, document)):
        failure = classify(VaultFault(reason), URI)

        assert isinstance(failure, Unavailable | Denied | Unclear | Misconfigured | Corrupt)
        assert document is not None or not isinstance(failure, Denied | Corrupt)
