"""Random sequences of everything that people, vaults and machines do, as rules of a state machine."""

import tempfile
from collections.abc import Coroutine
from pathlib import Path
from random import Random
from typing import Any

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from schemas.identifiers import SERVICE_POLICY, PolicyState, Workload
from tests.model.acts import CONTAINERS, KINDS, POLICIES
from tests.model.containers import is_site
from tests.model.ending import Ending
from tests.model.model import Request
from tests.model.policies import VAULTS, Policy

container = st.sampled_from(CONTAINERS)
policy = st.sampled_from(POLICIES)
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
        self._folder: tempfile.TemporaryDirectory[str]
        self._acts: Ending
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
        self._folder = tempfile.TemporaryDirectory(prefix="twinlock-model-")
        self._acts = Ending(Path(self._folder.name), self.template, Random(seed))  # noqa: S311  # an order of deliveries
        self._begun = True
        self.act(self._acts.furnish())

    # Content and keys

    @rule(name=container, mails=st.lists(st.integers(0, 3), min_size=1, max_size=5), again=st.booleans(), killed=killed)
    def bring(self, name: str, mails: list[int], again: bool, killed: int | None) -> None:
        """Import a folder."""
        self.act(self._acts.bring(name, mails, again=again, killed=killed))

    @rule(name=container, fresh=st.booleans())
    def read(self, name: str, fresh: bool) -> None:
        """Read as a person does."""
        self.act(self._acts.read(name, fresh=fresh))

    @rule(name=container, number=choice, then=then)
    def assign(self, name: str, number: int, then: int | None) -> None:
        """Put a mailbox, or all sites, under a policy, or back under the provider's."""
        workload = Workload.SITE if is_site(name) else Workload.MAILBOX
        own = [each for each, (_, of) in KINDS.items() if of is workload]
        self.act(self._acts.assign(name, _chosen([*own, SERVICE_POLICY], number), then))

    @rule(name=container, then=then)
    def move(self, name: str, then: int | None) -> None:
        """Re-encrypt a mailbox or a site."""
        self.act(self._acts.move(name, then))

    @rule(name=policy, roll=st.booleans(), then=then)
    def rotate(self, name: str, roll: bool, then: int | None) -> None:
        """Rotate and refresh."""
        self.act(self._acts.rotate(name, roll, then))

    @rule(name=policy, slots=slots, deletes=st.booleans(), seconds=seconds, fresh=st.booleans())
    def deny(self, name: str, slots: tuple[int, ...], deletes: bool, seconds: float, fresh: bool) -> None:
        """Disable or delete root keys."""
        for slot in slots:
            self.act(self._acts.deny(name, slot, deletes))
        self.wait_and_see(seconds, fresh)

    @rule(name=policy, slots=slots)
    def allow(self, name: str, slots: tuple[int, ...]) -> None:
        """Restore and enable root keys."""
        for slot in slots:
            self.act(self._acts.allow(name, slot))

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
        for name in CONTAINERS:
            self.act(self._acts.read(name, fresh=fresh))
        self.act(self._acts.alerts_fit())

    @rule(turns=st.integers(0, 120))
    def crash(self, turns: int) -> None:
        """Kill everything."""
        self.act(self._acts.kill(turns))

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
        """Return the policies with a denied key about which nothing is asked."""
        found = self.of(PolicyState.ACTIVE, PolicyState.REVOKED)
        return [each for each in found if each.denied and not self._acts.model.undecided(each)]

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


def _chosen(found: list[Any], number: int) -> Any:
    return found[number % len(found)]
