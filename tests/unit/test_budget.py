"""What hedging may cost."""

from hypothesis import given
from hypothesis import strategies as st

from twinlock.custody.budget import HedgeBudget

VAULTS = ["memory://east", "memory://west", "memory://north"]
STEPS = st.lists(st.tuples(st.sampled_from(VAULTS), st.sampled_from(["earn", "spend"])), max_size=400)
PARTS = st.sampled_from([0.01, 0.0625, 0.25, 0.5])


@given(STEPS, PARTS, st.floats(0, 20))
def test_bound(steps: list[tuple[str, str]], part: float, burst: float) -> None:
    """In every piece of every sequence a vault's extra requests are at most the burst and its part of the others."""
    budget = HedgeBudget(part, burst)
    over = dict.fromkeys(
        VAULTS, 0.0
    )  # by how much the piece that ends here and is the worst for it has gone beyond its part
    for vault, step in steps:
        change = budget.spend(vault) if step == "spend" else -part
        over[vault] = max(over[vault], 0) + change
        if step == "earn":
            budget.earn(vault)

        assert over[vault] <= burst + 1e-6


def test_vaults_apart() -> None:
    """What one vault has used up is another's still."""
    budget = HedgeBudget(0.5, 1)

    assert [True, False, True] == [budget.spend(VAULTS[0]), budget.spend(VAULTS[0]), budget.spend(VAULTS[1])]
    budget.earn(VAULTS[1])
    assert not budget.spend(VAULTS[0])


def test_earned_back() -> None:
    """A part of every request comes back, and no more than the burst is ever saved."""
    budget = HedgeBudget(0.25, 2)
    for _ in range(100):
        budget.earn(VAULTS[0])

    assert [True, True, False] == [budget.spend(VAULTS[0]) for _ in range(3)]
    for _ in range(4):
        assert not budget.spend(VAULTS[0])
        budget.earn(VAULTS[0])
    assert budget.spend(VAULTS[0])


def test_patience() -> None:
    """The fewer tokens are left, the longer a request is left alone: up to three times as long."""
    budget = HedgeBudget(0.06, 2)
    waits = [budget.patience(VAULTS[0])]
    while budget.spend(VAULTS[0]):
        waits.append(budget.patience(VAULTS[0]))

    assert [1.0, 2.0, 3.0] == waits
    assert (0.12, 1.0) == (budget.tail, budget.patience(VAULTS[1]))
    assert 3.0 == HedgeBudget(0.06, 0).patience(VAULTS[0])


def test_off() -> None:
    """A burst below 1 grants nothing, however much is earned."""
    budget = HedgeBudget(0.5, 0.9)
    for _ in range(10):
        budget.earn(VAULTS[0])

    assert not budget.spend(VAULTS[0])
