"""The one function that turns whatever goes wrong with a token into one of the five classes."""

from twinlock.keys.ports import Misconfigured, VaultFailure
from twinlock.vaults.administration import BadKeyUri
from twinlock.vaults.pkcs11.reasons import CLASSIFIER, VERDICTS, Reason, VaultFault
from twinlock.vaults.pkcs11.uris import SCHEME, without_others


def classify(fault: Exception, uri: str) -> VaultFailure:
    """Turn whatever went wrong into one of the five classes; an unknown answer is `Unclear`."""
    if uri.startswith(SCHEME):
        uri = without_others(uri)
    if isinstance(fault, BadKeyUri):
        return Misconfigured(fault.detail, uri=uri, raw="bad-uri", classifier=CLASSIFIER)
    # Of a foreign error only the type: its text may quote what was sent.
    found = fault if isinstance(fault, VaultFault) else VaultFault(Reason.UNKNOWN, type(fault).__name__)
    return VERDICTS[found.reason].failure(found, uri, CLASSIFIER)
