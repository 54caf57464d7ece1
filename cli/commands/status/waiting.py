"""What waits for a person: signatures, dead letters, and alerts that somebody has to look at."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from cli.commands.approval_documents import moment
from events.dead_letters import DeadLetter
from schemas.identifiers import ApprovalState, Severity
from twinlock.approvals.chain import NEEDED
from twinlock.approvals.rows import Approval

_UNDECIDED = (ApprovalState.OPEN, ApprovalState.APPROVED)


def waiting(
    approvals: Sequence[Approval], letters: Sequence[DeadLetter], alerts: Sequence[Mapping[str, Any]], now: datetime
) -> list[dict[str, Any]]:
    """Describe it all, with when it is due and the command that goes on with it."""
    found = [_approval(each) for each in approvals if each.state_at(now) in _UNDECIDED]
    if letters:
        found.append(_letters(letters))
    critical = (alert for alert in alerts if alert["severity"] == Severity.CRITICAL)
    # A dead letter's alert says nothing that the letter does not.
    return found + [_alert(alert) for alert in critical if alert["kind"] != "dead-letter"]


def distrusted(what: str, why: str, command: str) -> dict[str, Any]:
    """Describe that nothing is served until somebody has seen to a restore, or a forgery."""
    return {
        "what": what,
        "id": None,
        "tenant": None,
        "about": f"nothing is served: {why}",
        "due": None,
        "next": command,
    }


def _approval(approval: Approval) -> dict[str, Any]:
    signs = approval.state is ApprovalState.OPEN
    about = f"{approval.action} {approval.subject}: {len(approval.signed)} of {NEEDED} signatures"
    return {
        "what": "approval" if signs else "approved",
        "id": approval.id,
        "tenant": approval.tenant,
        "about": about,
        "due": moment(approval.due or approval.expires_at),
        "next": f"twinlock approval {'approve' if signs else 'show'} {approval.id}",
    }


def _letters(letters: Sequence[DeadLetter]) -> dict[str, Any]:
    count = len(letters)
    about = f"{count} {'event was' if count == 1 else 'events were'} given up; the last: {letters[-1].reason}"
    return {
        "what": "dead letters",
        "id": None,
        "tenant": None,
        "about": about,
        "due": None,
        "next": "twinlock dlq list",
    }


def _alert(alert: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "what": alert["kind"],
        "id": alert["id"],
        "tenant": alert["tenant"],
        "about": f"to {alert['audience']}: {alert['detail']}",
        "due": None,
        "next": f"twinlock alerts list --open --tenant {alert['tenant']}",
    }
