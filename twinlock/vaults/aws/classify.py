"""The one function that turns whatever goes wrong with AWS KMS into one of the five classes."""

from twinlock.keys.ports import Misconfigured, VaultFailure
from twinlock.vaults.administration import BadKeyUri
from twinlock.vaults.aws.reasons import CLASSIFIER, VERDICTS, Reason, VaultFault
from twinlock.vaults.network import shown_fault, trouble_of


def classify(fault: Exception, uri: str) -> VaultFailure:
    """Turn whatever went wrong into one of the five classes; an unknown answer is `Unclear`."""
    if isinstance(fault, BadKeyUri):
        return Misconfigured(fault.detail, uri=uri, raw="bad-uri", classifier=CLASSIFIER)
    found = fault if isinstance(fault, VaultFault) else VaultFault(Reason(trouble_of(fault)), shown_fault(fault))
    return VERDICTS[found.reason].failure(found, uri, CLASSIFIER)
