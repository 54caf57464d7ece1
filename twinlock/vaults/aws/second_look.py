"""Why a key did not unwrap: what the key's own description adds to the vault's first answer."""

from collections.abc import Awaitable, Callable

from twinlock.vaults.aws.answers import KmsKey
from twinlock.vaults.aws.reasons import Reason, VaultFault

# The answers that leave open whose act it was, or whether it was one.
_OPEN = (
    Reason.NOT_DECRYPTED,
    Reason.UNKNOWN_KEY,
    Reason.NO_MATERIAL,
    Reason.FORBIDDEN,
    Reason.FORBIDDEN_TO_US,
    Reason.FORBIDDEN_UNSAID,
    Reason.UNKNOWN,
)
_SETTLED = (Reason.DELETED, Reason.NO_MATERIAL, Reason.MATERIAL_EXPIRED)


async def after_look(first: VaultFault, identity: str, look: Callable[[], Awaitable[KmsKey]]) -> VaultFault:
    """Return the fault that an unwrap ends with; `identity` is that of the key that wrapped."""
    if first.reason not in _OPEN:
        return first
    try:
        key = await look()
    except VaultFault as fault:
        return _without_key(first, fault)
    except Exception:  # noqa: BLE001 - whatever came instead of a description, the first answer stands
        return gone(first)
    if key.identity != identity:
        return _because(first, Reason.REPLACED, "")
    try:
        enabled = key.description.enabled
    except VaultFault as fault:
        return _of_state(first, fault)
    if not enabled:
        return _because(first, Reason.DISABLED, key.state)
    return _because(first, Reason.NOT_SETTLED, key.state) if first.reason is Reason.UNKNOWN_KEY else first


def gone(first: VaultFault) -> VaultFault:
    """Return the fault of a key that something was wrapped under, so that it was there: not there, it is gone."""
    return _because(first, Reason.GONE, "") if first.reason is Reason.UNKNOWN_KEY else first


def _without_key(first: VaultFault, second: VaultFault) -> VaultFault:
    if second.reason is Reason.UNKNOWN_KEY and first.reason is Reason.NOT_DECRYPTED:
        return _because(first, Reason.GONE, "")
    return gone(first)


def _of_state(first: VaultFault, second: VaultFault) -> VaultFault:
    if second.reason in _SETTLED or (second.reason is Reason.KEY_STORE_CLOSED and first.reason is Reason.UNKNOWN):
        return _because(first, second.reason, second.raw)
    return gone(first)


def _because(first: VaultFault, reason: Reason, state: str) -> VaultFault:
    """Keep what was answered first beside the state that decided."""
    raw = "" if first.reason is Reason.NOT_DECRYPTED else first.raw
    return VaultFault(reason, f"{raw} {state}".strip(), first.request_id)
