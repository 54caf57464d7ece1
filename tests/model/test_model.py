"""Everything that people, vaults and machines do, in long sequences, held against a simple model."""

import os
import sys
from pathlib import Path
from random import SystemRandom

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import seed as seeded
from hypothesis.stateful import run_state_machine_as_test

from schemas.identifiers import PolicyState
from tests.model.machine import Machine
from tests.model.sequences import PURGED, SEQUENCES

# How many random sequences, of how many acts: more of both for a long search.
EXAMPLES, STEPS = int(os.environ.get("MODEL_EXAMPLES", "2")), int(os.environ.get("MODEL_STEPS", "25"))


@pytest.mark.timeout(0)  # hypothesis bounds how long it looks, and what is found takes long to be made smaller
def test_model(sqlite_template: Path) -> None:
    """Whatever happens in whatever order, nothing is lost, nobody reads past a denial, alerts and audit are right."""
    Machine.template = sqlite_template
    chosen = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        deadline=None,
        suppress_health_check=list(HealthCheck),  # each act takes its time
        database=None,
    )
    seed = int(os.environ.get("MODEL_SEED") or SystemRandom().randrange(2**32))
    sys.stdout.write(f"again with: MODEL_SEED={seed} MODEL_EXAMPLES={EXAMPLES} MODEL_STEPS={STEPS}\n")
    run_state_machine_as_test(seeded(seed)(Machine), settings=chosen)


@pytest.mark.parametrize("name", SEQUENCES)
def test_sequences(sqlite_template: Path, name: str) -> None:
    """Whatever is denied, stood in for, recovered, purged or held up is as the model has it, to the end."""
    Machine.template = sqlite_template
    machine = Machine()
    try:
        for act, values in (("furnish", {"seed": 1}), *SEQUENCES[name]):
            getattr(machine, act)(**values)
    finally:
        machine.teardown()

    assert PURGED.get(name, []) == [each.name for each in machine.of(PolicyState.PURGED)]


def test_every_rule() -> None:
    """The sequences go by every rule: what chance may leave out is looked at every time."""
    rules = {rule.function.__name__ for rule in Machine().rules}

    assert rules == {act for sequence in SEQUENCES.values() for act, _ in sequence}
