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
    verdict = VERDICTS[found.reason]
    # Why bytes do not decrypt is nobody's business (law 2), and neither is how the vault has put it.
    raw = "" if found.reason is Reason.NOT_DECRYPTED else found.raw
    return verdict.kind(
        verdict.detail,
        uri=uri,
        raw=f"{found.reason.value} {raw}".strip(),
        request_id=found.request_id,
        classifier=CLASSIFIER,
        exact=verdict.exact,
        counts=verdict.counts,
    )
