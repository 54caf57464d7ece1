"""The custodian's two ways of saying no, in words for people."""

from twinlock.custody.decision import HINTS, Decision, Reason
from twinlock.custody.errors import KeyNotYet, KeyRefused
from twinlock.custody.policies import Policy

NEEDS_ROOT = "one of its root keys must unwrap at this moment: enable it again, or request a recovery if both are lost"


def refused(policy: Policy, decision: Decision, heard: str | None = None) -> KeyRefused:
    """Say that a policy refuses, and name the fix."""
    detail = f"policy {policy} refuses: {decision.reason.value}"
    return KeyRefused(detail, policy=policy.id, hint=decision.hint, heard=heard)


def needs_root(policy: Policy, decision: Decision, heard: str | None = None) -> KeyRefused:
    """Say that no root key unwraps where nothing else will do (law 6)."""
    if decision.reason is Reason.NOT_ACTIVE:
        return refused(policy, decision, heard)
    detail = f"no root key of policy {policy} unwraps now: {decision.reason.value}"
    return KeyRefused(detail, policy=policy.id, hint=NEEDS_ROOT, heard=heard)


def not_yet(policy: Policy) -> KeyNotYet:
    """Say that time ran out before the root keys answered or their silence was proven (law 5)."""
    return KeyNotYet(
        f"policy {policy} can't be opened yet: {Reason.EVIDENCE.value}",
        policy=policy.id,
        hint=HINTS[Reason.EVIDENCE],
    )
