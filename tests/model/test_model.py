"""Random sequences of everything that people, vaults and machines do, held against a simple model."""

import os
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from random import Random
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from schemas.identifiers import SERVICE_POLICY, PolicyState
from tests.model.acts import BOXES, POLICIES, Acts
from tests.model.model import VAULTS, Policy, Request

# How many sequences, of how many acts: more of both for a long search.
EXAMPLES, STEPS = int(os.environ.get("MODEL_EXAMPLES", "3")), int(os.environ.get("MODEL_STEPS", "20"))

box = st.sampled_from(BOXES)
policy = st.sampled_from(sorted(POLICIES))
killed = st.none() | st.integers(0, 120)
then = st.none() | st.integers(-12, 120)
choice = st.integers(0, 10)
slots = st.sampled_from(((0, 1), (0, 1), (0,), (1,)))
seconds = st.sampled_from((200.0, 700.0, 40.0, 0.0))  # the published bound is 188 with these settings


class Machine(RuleBasedStateMachine):
    """Do one thing after another; every act looks by itself whether the installation follows the model."""

    template: Path

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(prefix="twinlock-model-")
        self._acts: Acts
        self._begun = self._failed = False

    def act(self, act: Coroutine[Any, Any, None]) -> None:
        """Do something."""
        try:
            self._acts.home.do(act)
        except BaseException:
            self._failed = True
            raise

    @initialize(seed=st.integers(0, 2**32))
    def furnish(self, seed: int) -> None:
        """Make the installation."""
        self._acts = Acts(Path(self._folder.name), self.template, Random(seed))  # noqa: S311  # an order of deliveries
        self._begun = True
        self.act(self._acts.furnish())

    # Content and keys

    @rule(address=box, mails=st.lists(st.integers(0, 3), min_size=1, max_size=5), again=st.booleans(), killed=killed)
    def bring(self, address: str, mails: list[int], again: bool, killed: int | None) -> None:
        """Import a folder."""
        self.act(self._acts.bring(address, mails, again=again, killed=killed))

    @rule(address=box, fresh=st.booleans())
    def read(self, address: str, fresh: bool) -> None:
        """Read as a person does."""
        self.act(self._acts.read(address, fresh=fresh))

    @rule(address=box, name=policy | st.just(SERVICE_POLICY), then=then)
    def assign(self, address: str, name: str, then: int | None) -> None:
        """Put a mailbox under a policy."""
        self.act(self._acts.assign(address, name, then))

    @rule(address=box, then=then)
    def move(self, address: str, then: int | None) -> None:
        """Re-encrypt a mailbox."""
        self.act(self._acts.move(address, then))

    @rule(name=policy, roll=st.booleans(), then=then)
    def rotate(self, name: str, roll: bool, then: int | None) -> None:
        """Rotate and refresh."""
        self.act(self._acts.rotate(name, roll, then))

    @rule(name=policy, slots=slots, seconds=seconds, fresh=st.booleans())
    def disable(self, name: str, slots: tuple[int, ...], seconds: float, fresh: bool) -> None:
        """Disable root keys."""
        for slot in slots:
            self.act(self._acts.enable(name, slot, False))
        self.wait_and_see(seconds, fresh)

    @rule(name=policy, slots=slots)
    def enable(self, name: str, slots: tuple[int, ...]) -> None:
        """Enable root keys."""
        for slot in slots:
            self.act(self._acts.enable(name, slot, True))

    @rule(vaults=st.sampled_from((VAULTS, VAULTS[:1], VAULTS[1:])), on=st.booleans(), seconds=seconds)
    def outage(self, vaults: tuple[str, ...], on: bool, seconds: float) -> None:
        """Cut vaults off, or bring them back."""
        for vault in vaults:
            self.act(self._acts.outage(vault, on))
        self.wait_and_see(seconds, True)

    @rule(seconds=seconds, fresh=st.booleans())
    def wait_and_see(self, seconds: float, fresh: bool) -> None:
        """Let time pass, and see who can read what then, and what is told."""
        self.act(self._acts.wait(seconds))
        for address in BOXES:
            self.act(self._acts.read(address, fresh=fresh))
        for name in POLICIES:
            self.act(self._acts.alerts_fit(name))

    @rule(turns=st.integers(0, 120))
    def crash(self, turns: int) -> None:
        """Kill everything."""
        self.act(self._acts.crash(turns))

    @rule(count=st.integers(1, 20))
    def repeat(self, count: int) -> None:
        """Deliver again what came before."""
        self.act(self._acts.repeat(count))

    # What is decided about a policy

    @precondition(lambda self: self.of(PolicyState.ACTIVE))
    @rule(number=choice)
    def revoke(self, number: int) -> None:
        """Revoke a policy."""
        self.act(self._acts.revoke(_chosen(self.of(PolicyState.ACTIVE), number).name))

    @precondition(lambda self: self.of(PolicyState.REVOKED))
    @rule(number=choice)
    def restore(self, number: int) -> None:
        """Ask for the lifting of a revocation."""
        self.act(self._acts.restore(_chosen(self.of(PolicyState.REVOKED), number).name))

    @precondition(lambda self: self.condemned())
    @rule(number=choice)
    def recover(self, number: int) -> None:
        """Ask for a recovery."""
        self.act(self._acts.recover(_chosen(self.condemned(), number).name))

    @precondition(lambda self: self.condemned())
    @rule(number=choice)
    def purge(self, number: int) -> None:
        """Ask for a purge."""
        self.act(self._acts.purge(_chosen(self.condemned(), number).name))

    @precondition(lambda self: self.open())
    @rule(number=choice)
    def sign(self, number: int) -> None:
        """Sign what is asked for."""
        self.act(self._acts.sign(_chosen(self.open(), number)))

    @precondition(lambda self: self.requests())
    @rule(number=choice)
    def cancel(self, number: int) -> None:
        """Cancel what is asked for."""
        self.act(self._acts.cancel(_chosen(self.requests(), number)))

    def of(self, *states: PolicyState) -> list[Policy]:
        """Return the policies in these states."""
        return [each for each in self._acts.model.policies.values() if each.state in states]

    def condemned(self) -> list[Policy]:
        """Return the policies with a disabled key about which nothing is asked."""
        found = self.of(PolicyState.ACTIVE, PolicyState.REVOKED)
        return [each for each in found if each.disabled and not self._acts.model.undecided(each)]

    def requests(self) -> list[Request]:
        """Return what is asked for and not decided."""
        return list(self._acts.model.requests.values())

    def open(self) -> list[Request]:
        """Return what somebody may sign."""
        return [each for each in self.requests() if len(each.signed) < 2]

    def teardown(self) -> None:
        """Give everything back and see that all is there, unless something else was found."""
        try:
            if self._begun and not self._failed:
                self.act(self._acts.end_well())
        finally:
            if self._begun:
                self._acts.home.close()
            self._folder.cleanup()


Sequence = tuple[tuple[str, dict[str, Any]], ...]
BOTH = {"slots": (0, 1), "fresh": True}
SIGN = (("sign", {"number": 0}), ("crash", {"turns": 3}), ("sign", {"number": 0}))

# What takes too many steps to be come upon every time.
SEQUENCES: dict[str, Sequence] = {
    "denied": (
        ("read", {"address": BOXES[0], "fresh": False}),
        ("disable", {"name": "common", "seconds": 200.0, "slots": (0, 1), "fresh": False}),
    ),
    "recovered": (
        ("move", {"address": BOXES[0], "then": -3}),
        ("disable", {"name": "common", "seconds": 200.0, **BOTH}),
        ("recover", {"number": 0}),
        *SIGN,
        ("repeat", {"count": 20}),
        ("outage", {"vaults": VAULTS, "on": True, "seconds": 200.0}),
    ),
    "purged": (
        ("move", {"address": BOXES[1], "then": -3}),
        ("disable", {"name": "strict", "seconds": 40.0, **BOTH}),
        ("purge", {"number": 0}),
        ("cancel", {"number": 0}),
        ("purge", {"number": 0}),
        *SIGN,
        ("wait_and_see", {"seconds": 700.0, "fresh": True}),
        ("repeat", {"count": 20}),
        ("bring", {"address": BOXES[1], "mails": [1], "again": False, "killed": None}),
    ),
    "held up": (
        ("bring", {"address": BOXES[1], "mails": [1, 2, 3, 4, 5], "again": False, "killed": None}),
        ("move", {"address": BOXES[1], "then": -8}),
        ("disable", {"name": "strict", "seconds": 200.0, **BOTH}),
        ("enable", {"name": "strict", "slots": (1,)}),
        ("wait_and_see", {"seconds": 700.0, "fresh": False}),
    ),
}


def _chosen(found: list[Any], number: int) -> Any:
    return found[number % len(found)]


@pytest.mark.timeout(0)  # hypothesis bounds how long it looks, and what is found takes long to be made smaller
def test_model(sqlite_template: Path) -> None:
    """Whatever happens in whatever order, no mail is lost, nobody reads past a denial, alerts and audit are right."""
    Machine.template = sqlite_template
    chosen = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        deadline=None,
        suppress_health_check=list(HealthCheck),  # each act takes its time
        database=None,
    )
    run_state_machine_as_test(Machine, settings=chosen)


@pytest.mark.parametrize("name", SEQUENCES)
def test_sequences(sqlite_template: Path, name: str) -> None:
    """Whatever is recovered, purged or held up is as the model has it, to the end."""
    Machine.template = sqlite_template
    machine = Machine()
    try:
        for act, values in (("furnish", {"seed": 1}), *SEQUENCES[name]):
            getattr(machine, act)(**values)
    finally:
        machine.teardown()
