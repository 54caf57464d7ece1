"""The custodian's two ways of saying no, in words for people."""

from collections.abc import Sequence

from twinlock.custody import guards
from twinlock.custody.decision import HINTS, Decision, Reason
from twinlock.custody.errors import KeyNotYet, KeyRefused
from twinlock.custody.health.verdicts import SlotVerdict, heard_from
from twinlock.custody.policies import Policy

NEEDS_ROOT = "one of its root keys must unwrap at this moment: enable it again, or request a recovery if both are lost"


def refused(policy: Policy, decision: Decision, found: Sequence[SlotVerdict] = ()) -> KeyRefused:
    """Say that a policy refuses, and name the fix; `found` is what root keys said to this very call."""
    return _refusal(policy, f"policy {policy} refuses", decision, decision.hint, found)


def needs_root(policy: Policy, decision: Decision, found: Sequence[SlotVerdict] = ()) -> KeyRefused:
    """Say that no root key unwraps where nothing else will do (law 6)."""
    if decision.reason is Reason.NOT_ACTIVE:
        return refused(policy, decision, found)
    return _refusal(policy, f"no root key of policy {policy} unwraps now", decision, NEEDS_ROOT, found)


def not_yet(policy: Policy, found: Sequence[SlotVerdict] = ()) -> KeyNotYet:
    """Say that time ran out before the root keys answered or their silence was proven (law 5)."""
    return KeyNotYet(
        f"policy {policy} can't be opened yet: {_held_back(found) or Reason.EVIDENCE.value}",
        policy=policy.id,
        hint=HINTS[Reason.EVIDENCE],
    )


def _refusal(policy: Policy, what: str, decision: Decision, hint: str, found: Sequence[SlotVerdict]) -> KeyRefused:
    reason = decision.reason.value
    if decision.reason is Reason.UNAVAILABLE and (limit := _held_back(found)):
        reason, hint = limit, HINTS[Reason.EVIDENCE]
    return KeyRefused(f"{what}: {reason}", policy=policy.id, hint=hint, heard=heard_from(found))


def _held_back(found: Sequence[SlotVerdict]) -> str | None:
    """Say what kept us from asking any vault: nobody is to look for a fault in vaults that were not called."""
    limited = [each.detail for each in found if each.classifier == guards.CLASSIFIER and each.raw in guards.LIMITS]
    return limited[0] if limited and len(limited) == len(found) else None
