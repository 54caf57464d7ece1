"""The kill switch in a fleet: it works while the broker is down and a custodian hangs."""

import signal
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

from schemas.names import TIK_CACHE_REFRESHER
from tests.fleet.installation import Fleet

TOLD = "SELECT count(*) FROM revocations WHERE announced"


def registered(fleet: Fleet) -> list[dict[str, Any]]:
    """Return the custodians that are registered."""
    found: list[dict[str, Any]] = fleet.ask("status")["custodians"]
    return found


def test_law_8_revoke(fleet: Fleet, boxes: dict[str, Counter[bytes]], tmp_path: Path) -> None:
    """Law 8: with no broker, and one of two custodians stopped, a revocation is complete within its seconds.

    The custodian that goes on then refuses, as the other one does; whoever restores the policy reads again.
    """
    (address, _) = boxes
    fleet.ask("policy", "assign", "acme/main", "--mailbox", address)
    stopped, _ = fleet.of(TIK_CACHE_REFRESHER)
    fleet.until(lambda: [True, True] == [each["serves"] for each in registered(fleet) if each["serves"]])
    gone = len(registered(fleet)) - 2  # killed by other tests: their rows stay for a minute or two
    told = fleet.value(TOLD)
    stopped.tell(signal.SIGSTOP)
    fleet.node.kill()
    try:
        done = fleet.ask("policy", "revoke", "acme/main")
    finally:
        stopped.tell(signal.SIGCONT)
        fleet.node.start()
    fleet.all_ready()
    refused = [
        fleet.run("mailbox", "export", address, str(tmp_path / "refused"), *more)
        for more in ((), ("--as", "service:index"))
    ]

    assert ("revoked", 1) == (done["state"], done["evicted"])
    assert 1 <= done["lapsed"] <= 1 + gone
    assert datetime.fromisoformat(done["callers_until"])
    assert [1, 1] == [each.code for each in refused]
    assert all("the policy is revoked" in each.err for each in refused)

    fleet.ask("policy", "restore", "acme/main")
    fleet.until(lambda: told + 2 == fleet.value(TOLD))
    fleet.assert_sound(boxes)
