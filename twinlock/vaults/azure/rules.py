"""Which reason an answer stands for: of a vault, and of whoever gives out tokens.

A vault gives `{"error": {"code", "message", "innererror": {"code"}}}`. The innermost code decides, then the next, then
the text; what says that a network is kept out comes before what says that a caller is, because their texts overlap.
"""

import re
from collections.abc import Sequence
from typing import Any

from twinlock.vaults.azure.reasons import Reason

_DEEPEST = 5  # errors within errors
_GOOD, _REDIRECTIONS = range(200, 300), range(300, 400)

_STATUSES = {
    401: Reason.TOKEN_BAD,
    408: Reason.NO_ANSWER,
    429: Reason.LIMITED,
    500: Reason.SERVER_FAULT,
    502: Reason.SERVER_FAULT,
    503: Reason.SERVER_FAULT,
    504: Reason.SERVER_FAULT,
}
_CODES = {
    403: {
        "keydisabled": Reason.DISABLED,
        "forbiddenbyfirewall": Reason.NETWORK,
        "forbiddenbyconnection": Reason.NETWORK,
    },
    404: {"keynotfound": Reason.UNKNOWN_KEY, "resourcenotfound": Reason.UNKNOWN_KEY},
    409: {"objectisdeletedbutrecoverable": Reason.DELETED, "objectisbeingdeleted": Reason.DELETED},
}
_TEXTS = {
    400: (
        ("unable to decrypt", Reason.NOT_DECRYPTED),
        ("decryption failed", Reason.NOT_DECRYPTED),
        ("failed to decrypt", Reason.NOT_DECRYPTED),
        ("size", Reason.NOT_DECRYPTED),
        ("length", Reason.NOT_DECRYPTED),
        ("algorithm", Reason.WRONG_TYPE),
        ("key type", Reason.WRONG_TYPE),
    ),
    403: (
        ("client address is not authorized", Reason.NETWORK),
        ("not a trusted service", Reason.NETWORK),
        ("public network access is disabled", Reason.NETWORK),
        ("on a disabled key", Reason.SAID_DISABLED),
        ("expired", Reason.NOT_IN_TIME),
        ("not yet valid", Reason.NOT_IN_TIME),
    ),
    404: (("was not found", Reason.UNKNOWN_KEY),),
}
_LATER_CODES = {
    403: {
        "forbiddenbyrbac": Reason.FORBIDDEN,
        "forbiddenbypolicy": Reason.FORBIDDEN,
        "accessdenied": Reason.FORBIDDEN,
    }
}
_LATER_TEXTS = {
    403: (
        ("caller is not authorized to perform action", Reason.FORBIDDEN),
        ("does not have keys", Reason.FORBIDDEN),
    )
}
_DENIALS = frozenset(code for found in (*_CODES.values(), *_LATER_CODES.values()) for code in found)

_AADSTS = re.compile(r"AADSTS([0-9]{5,9})(?![0-9])")
_TOKEN_CODES = {
    700016: Reason.NO_CONSENT,
    7000112: Reason.APP_DISABLED,
    7000215: Reason.LOGIN_REFUSED,
    7000222: Reason.LOGIN_REFUSED,
    7005003: Reason.LOGIN_REFUSED,
    7005004: Reason.LOGIN_REFUSED,
    7005005: Reason.LOGIN_REFUSED,
}
_ASSERTION = 700027  # of a certificate; its text says whose fault that is
_ASSERTION_TEXTS = ("expired", "was not found")


def reason_of(status: int, document: dict[str, Any] | None) -> Reason:
    """Say what a vault's answer that is no success means; `document` is None where the body is not the vault's own."""
    if status in _REDIRECTIONS:
        return Reason.ADDRESS  # a token is never sent on to another place
    codes, said = _read(document)
    if status in _STATUSES:
        # An outage that names a denial is neither: it must not open the availability key.
        told = status >= 500 and any(code in _DENIALS for code in codes)
        return Reason.UNKNOWN if told else _STATUSES[status]
    for table, texts in ((_CODES, _TEXTS), (_LATER_CODES, _LATER_TEXTS)):
        for code in codes:
            if found := table.get(status, {}).get(code):
                return found
        for text, reason in texts.get(status, ()):
            if text in said:
                return reason
    return Reason.UNKNOWN


def _read(document: dict[str, Any] | None) -> tuple[Sequence[str], str]:
    """Return the codes in small letters, the innermost first, and the text."""
    codes: list[str] = []
    error = (document or {}).get("error")
    said = error.get("message") if isinstance(error, dict) else None
    for _ in range(_DEEPEST):
        if not isinstance(error, dict):
            break
        code = error.get("code")
        codes += [code.lower()] if isinstance(code, str) else []
        error = next((error[name] for name in ("innererror", "innerError") if name in error), None)
    return codes[::-1], said.lower() if isinstance(said, str) else ""


def token_reason(status: int, document: dict[str, Any] | None) -> Reason:
    """Say why no token was given out."""
    if status in _REDIRECTIONS:
        return Reason.ADDRESS
    if status in _STATUSES and status != 401:
        return _STATUSES[status]
    said = (document or {}).get("error_description")
    text = said if isinstance(said, str) else ""
    code = _token_code(document or {}, text)
    if code == _ASSERTION:
        return Reason.LOGIN_REFUSED if any(each in text.lower() for each in _ASSERTION_TEXTS) else Reason.UNKNOWN
    return _TOKEN_CODES.get(code, Reason.UNKNOWN)


def _token_code(document: dict[str, Any], text: str) -> int:
    listed = document.get("error_codes")
    if isinstance(listed, list) and listed and type(listed[0]) is int:
        return listed[0]
    found = _AADSTS.search(text)
    return int(found[1]) if found else 0
