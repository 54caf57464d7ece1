"""The one function that turns whatever goes wrong with a vault of Azure into one of the five classes."""

from azure.core.exceptions import AzureError

from twinlock.keys.ports import Misconfigured, VaultFailure
from twinlock.vaults.administration import BadKeyUri
from twinlock.vaults.azure.reasons import CLASSIFIER, VERDICTS, Reason, VaultFault
from twinlock.vaults.network import shown_fault, trouble_of

_DEEPEST = 5  # causes within causes


def classify(fault: Exception, uri: str) -> VaultFailure:
    """Turn whatever went wrong into one of the five classes; an unknown answer is `Unclear`."""
    if isinstance(fault, BadKeyUri):
        return Misconfigured(fault.detail, uri=uri, raw="bad-uri", classifier=CLASSIFIER)
    found = fault_of(fault)
    return VERDICTS[found.reason].failure(found, uri, CLASSIFIER)


def fault_of(fault: Exception) -> VaultFault:
    """Return the fault that an exception stands for, whatever the library has wrapped it in."""
    for _ in range(_DEEPEST):
        inner = fault.inner_exception if isinstance(fault, AzureError) else None
        if not isinstance(inner, Exception):
            break
        fault = inner
    return fault if isinstance(fault, VaultFault) else VaultFault(Reason(trouble_of(fault)), shown_fault(fault))
