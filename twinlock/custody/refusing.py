"""The custodian's two ways of saying no, in words for people."""

from collections.abc import Sequence

from twinlock.custody.decision import HINTS, Decision, Reason
from twinlock.custody.errors import KeyNotYet, KeyRefused
from twinlock.custody.guards import CLASSIFIER, Guard
from twinlock.custody.health.verdicts import SlotVerdict, heard_from
from twinlock.custody.policies import Policy

NEEDS_ROOT = "one of its root keys must unwrap at this moment: enable it again, or request a recovery if both are lost"


def refused(policy: Policy, decision: Decision, verdicts: Sequence[SlotVerdict] = ()) -> KeyRefused:
    """Say that a policy refuses, and name the fix; `verdicts` are what root keys said to this very call."""
    return _refusal(policy, f"policy {policy} refuses", decision, decision.hint, verdicts)


def needs_root(policy: Policy, decision: Decision, verdicts: Sequence[SlotVerdict] = ()) -> KeyRefused:
    """Say that no root key unwraps where nothing else will do (law 6)."""
    if decision.reason is Reason.NOT_ACTIVE:
        return refused(policy, decision, verdicts)
    return _refusal(policy, f"no root key of policy {policy} unwraps now", decision, NEEDS_ROOT, verdicts)


def not_yet(policy: Policy, verdicts: Sequence[SlotVerdict] = ()) -> KeyNotYet:
    """Say that time ran out before the root keys answered or their silence was proven (law 5)."""
    return KeyNotYet(
        f"policy {policy} can't be opened yet: {_held_back(verdicts) or Reason.EVIDENCE.value}",
        policy=policy.id,
        hint=HINTS[Reason.EVIDENCE],
    )


def _refusal(policy: Policy, what: str, decision: Decision, hint: str, verdicts: Sequence[SlotVerdict]) -> KeyRefused:
    reason = decision.reason.value
    if decision.reason is Reason.UNAVAILABLE and (limit := _held_back(verdicts)):
        reason, hint = limit, HINTS[Reason.EVIDENCE]
    return KeyRefused(f"{what}: {reason}", policy=policy.id, hint=hint, heard=heard_from(verdicts))


def _held_back(verdicts: Sequence[SlotVerdict]) -> str | None:
    """Say what kept us from asking any vault: nobody is to look for a fault in vaults that were not called."""
    limited = [each.detail for each in verdicts if each.classifier == CLASSIFIER and each.raw != Guard.BREAKER]
    return limited[0] if limited and len(limited) == len(verdicts) else None
