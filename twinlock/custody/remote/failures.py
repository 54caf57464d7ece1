"""The custodian's failures across the wire: what arises there arises at the caller, with its detail and hint."""

import logging
from collections.abc import Callable, Mapping

from twinlock.custody.errors import CustodianSilent, GenerationGone, KeyNotYet, KeyRefused, NotPermitted
from twinlock.custody.remote.messages import Failed
from twinlock.errors import NotFound, TwinlockError
from twinlock.keys.errors import DecryptionError
from twinlock.keys.ports import Corrupt, Denied, Misconfigured, Unavailable, Unclear, VaultFailure

log = logging.getLogger(__name__)

FAULT = "fault"
_MOST = 1000

_VAULT: Mapping[str, type[VaultFailure]] = {
    kind.outcome.value: kind for kind in (Unavailable, Denied, Unclear, Misconfigured, Corrupt)
}
_CUSTODY: Mapping[str, type[KeyRefused] | type[KeyNotYet]] = {
    "not-permitted": NotPermitted,  # before its base
    "refused": KeyRefused,
    "not-yet": KeyNotYet,
}
_PLAIN: Mapping[str, type[TwinlockError]] = {"not-found": NotFound, "error": TwinlockError}
_BARE: Mapping[str, Callable[[], Exception]] = {
    "generation-gone": GenerationGone,
    "does-not-decrypt": DecryptionError,
}


def told(error: Exception) -> Failed:
    """Put a failure into words for the wire; of an unforeseen one nothing is told, its class goes into our log."""
    if isinstance(error, VaultFailure):
        return _vault(error)
    if isinstance(error, (KeyRefused, KeyNotYet)):
        kind = next(name for name, known in _CUSTODY.items() if isinstance(error, known))
        return Failed(kind=kind, detail=error.detail[:_MOST], hint=error.hint[:_MOST], policy=error.policy[:_MOST])
    if isinstance(error, (GenerationGone, DecryptionError)):
        return Failed(kind="generation-gone" if isinstance(error, GenerationGone) else "does-not-decrypt")
    if isinstance(error, TwinlockError):
        kind = "not-found" if isinstance(error, NotFound) else "error"
        return Failed(kind=kind, detail=error.detail[:_MOST], hint=error.hint[:_MOST])
    log.error("a call failed with %s", type(error).__name__)
    return Failed(kind=FAULT)


def again(failed: Failed) -> Exception:
    """Return the failure to be raised at the caller."""
    if failed.kind in _VAULT:
        return _VAULT[failed.kind](
            failed.detail,
            uri=failed.uri,
            raw=failed.raw,
            request_id=failed.request_id,
            classifier=failed.classifier,
            exact=failed.exact,
            counts=failed.counts,
        )
    if failed.kind in _CUSTODY:
        return _CUSTODY[failed.kind](failed.detail, policy=failed.policy, hint=failed.hint)
    if failed.kind in _PLAIN:
        return _PLAIN[failed.kind](failed.detail, hint=failed.hint)
    if failed.kind in _BARE:
        return _BARE[failed.kind]()
    return CustodianSilent("the custodian could not work on it: its log says why")


def _vault(failure: VaultFailure) -> Failed:
    return Failed(
        kind=failure.outcome.value,
        detail=failure.detail[:_MOST],
        uri=failure.uri[:_MOST],
        raw=failure.raw[:_MOST],
        request_id=failure.request_id[:_MOST],
        classifier=failure.classifier[:_MOST],
        exact=failure.exact,
        counts=failure.counts,
    )
