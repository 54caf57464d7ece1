"""Long runs that are the same every time, and together go by every rule: what chance takes too many steps to come upon.

Every one ends as a random one does: all is given back, and all that has to be there is looked at.
"""

from typing import Any

from schemas.identifiers import SERVICE_POLICY, Workload
from tests.model.acts import CONTAINERS, KINDS, POLICIES
from tests.model.containers import is_site
from tests.model.policies import VAULTS

Step = tuple[str, dict[str, Any]]

ANN, BOB, EVE, HQ, LAB = CONTAINERS
BOTH = (0, 1)
NOW: int | None = None  # what is asked for is done at once


def _bring(name: str, *mails: int, killed: int | None = None, again: bool = False) -> Step:
    return "bring", {"name": name, "mails": list(mails), "again": again, "killed": killed}


def _assign(name: str, policy: str, then: int | None = NOW) -> Step:
    workload = Workload.SITE if is_site(name) else Workload.MAILBOX
    own = [each for each, (_, of) in KINDS.items() if of is workload]
    return "assign", {"name": name, "number": [*own, SERVICE_POLICY].index(policy), "then": then}


def _move(name: str, then: int | None = NOW) -> Step:
    return "move", {"name": name, "then": then}


def _rotate(name: str, roll: bool, then: int | None = NOW) -> Step:
    return "rotate", {"name": name, "roll": roll, "then": then}


def _deny(name: str, slots: tuple[int, ...], seconds: float, *, deletes: bool = False, fresh: bool = True) -> Step:
    return "deny", {"name": name, "slots": slots, "deletes": deletes, "seconds": seconds, "fresh": fresh}


def _allow(name: str, *slots: int) -> Step:
    return "allow", {"name": name, "slots": slots}


def _outage(on: bool, seconds: float, vaults: tuple[str, ...] = VAULTS) -> Step:
    return "outage", {"vaults": vaults, "on": on, "seconds": seconds}


def _wait(seconds: float, *, fresh: bool = True) -> Step:
    return "wait_and_see", {"seconds": seconds, "fresh": fresh}


def _decide(what: str, number: int = 0) -> Step:
    return what, {"number": number}  # of those that it can be about, mostly there is one


RECOVER, PURGE, CANCEL, RESTORE = map(_decide, ("recover", "purge", "cancel", "restore"))
CRASH: Step = ("crash", {"turns": 3})
REPEAT: Step = ("repeat", {"count": 20})
SIGN = (_decide("sign"), CRASH, _decide("sign"))

SEQUENCES: dict[str, tuple[Step, ...]] = {
    "denied, recovered, stood in for": (
        ("read", {"name": ANN, "fresh": False}),
        _bring(ANN, 1, 2, 3, 4, 5, killed=60),
        _move(ANN, -3),
        _deny("common", (0,), 40),
        _deny("common", (1,), 200, fresh=False),
        _outage(True, 40),
        _outage(False, 0),
        RECOVER,
        CANCEL,
        RECOVER,
        *SIGN,
        REPEAT,
        _outage(True, 40),
        CRASH,
        _bring(ANN, 1),
        _wait(200),
        _outage(False, 40),
        _assign(BOB, "common", 20),
        _assign(ANN, SERVICE_POLICY),
        _rotate("common", True, 40),
    ),
    "purged": (
        _bring(BOB, 1, 2, 3),
        _move(BOB, -3),
        _deny("strict", BOTH, 40, deletes=True),
        PURGE,
        CANCEL,
        _allow("strict", 0),
        _wait(40),
        _deny("strict", BOTH, 0),
        PURGE,
        *SIGN,
        _wait(700),
        REPEAT,
        _bring(BOB, 1),
        _assign(BOB, "own", 30),
        _rotate("own", False),
    ),
    "sites": (
        _bring(HQ, 1, 2, 3, 4, 5, killed=80),
        _bring(HQ, 1, 2, again=True),
        _move(HQ, -3),
        _rotate("sites", True, 30),
        _deny("sites", (1,), 40, deletes=True),
        _outage(True, 0, VAULTS[1:]),
        _deny("sites", (0,), 200, fresh=False),
        _outage(False, 40),
        RECOVER,
        *SIGN,
        REPEAT,
        _outage(True, 700),
        _outage(False, 0),
        _assign(LAB, SERVICE_POLICY, 40),
        _assign(LAB, "sites", -2),
        _deny("sites", BOTH, 40),
        PURGE,
        *SIGN,
        _wait(700),
        REPEAT,
        _bring(HQ, 1),
    ),
    "one's own keys alone": (
        _bring(EVE, 1, 2, 3, 4, 5),
        _move(EVE, -8),
        _outage(True, 40),
        CRASH,
        _wait(200),
        _outage(False, 0),
        _decide("revoke", POLICIES.index("own")),
        _wait(40, fresh=False),
        RESTORE,
        *SIGN,
        _deny("own", BOTH, 200),
        _allow("own", 1),
        _wait(200, fresh=False),
        _deny("own", (1,), 40),
        RECOVER,
        PURGE,
        *SIGN,
        _wait(700),
        REPEAT,
    ),
}

# The policy that each ends without.
PURGED: dict[str, list[str]] = {"purged": ["strict"], "sites": ["sites"], "one's own keys alone": ["own"]}
