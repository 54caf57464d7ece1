"""What cuts calls of vaults off: the breaker, the rate limit and the budget; and that it tells nothing of the key."""

from contextlib import suppress

import pytest

from twinlock.clock import ManualClock
from twinlock.custody.guards import Guards, on_behalf_of
from twinlock.custody.operations import Account, Operation
from twinlock.custody.port import USER, Asker, Initiator, service
from twinlock.custody.settings import GuardSettings
from twinlock.keys.ports import Denied, Unavailable, VaultFailure
from twinlock.store.unit import Cause

KEY, OTHER, ELSEWHERE = "test://left/a", "test://left/b", "test://right/a"
PAUSE = GuardSettings().breaker_pause


def failure(kind: type[VaultFailure], *, counts: bool = False) -> VaultFailure:
    """Fail as a vault does."""
    return kind("scripted", uri=KEY, classifier="test/1", counts=counts)


SILENCE = failure(Unavailable, counts=True)


def call(
    guards: Guards,
    key: str = KEY,
    answer: BaseException | None = None,
    who: Initiator | None = None,
    tenant: str = "acme",
) -> bool:
    """Make a call that ends so, and say whether the vault was asked."""
    asked = False
    with suppress(VaultFailure, KeyboardInterrupt):
        if who is not None:
            with on_behalf_of(Asker(who, Cause("test"))), guards.around(key, Account(tenant), Operation.UNWRAP):
                asked = True
        else:
            with guards.around(key, Account("acme"), Operation.UNWRAP):
                asked = True
                if answer is not None:
                    raise answer
    return asked


def opened(clock: ManualClock) -> Guards:
    """Return guards with an open breaker for one vault."""
    guards = Guards(clock, GuardSettings())
    for _ in range(GuardSettings().breaker_failures):
        assert call(guards, answer=SILENCE)
    return guards


def test_opens(clock: ManualClock) -> None:
    """After so many failures in a row each key of a vault is tried once in a pause; other vaults are not concerned."""
    guards = opened(clock)

    assert ["test://left"] == guards.silent()
    assert [True, False, True, False] == [call(guards, key, SILENCE) for key in (KEY, KEY, OTHER, OTHER)]
    assert call(guards, ELSEWHERE)

    clock.advance(PAUSE)

    assert [True, False] == [call(guards, KEY, SILENCE) for _ in range(2)]


@pytest.mark.parametrize("answer", [None, failure(Denied)])
def test_any_answer_closes(clock: ManualClock, answer: VaultFailure | None) -> None:
    """One answer, a denial too, closes the breaker for every key of the vault."""
    guards = opened(clock)
    call(guards, KEY, answer)

    assert [] == guards.silent()
    assert all(call(guards, OTHER) for _ in range(3))


def test_asked_to_wait(clock: ManualClock) -> None:
    """A vault that says for how long is left alone so long, and no longer than we say; probes go on."""
    guards, most = Guards(clock, GuardSettings()), GuardSettings().longest_wait
    for asked, kept in ((7.0, 7.0), (86400.0, most)):
        assert call(guards, KEY, Unavailable("limited", uri=KEY, classifier="test/1", retry_after=asked))
        assert [False, False, True] == [call(guards, key, who=USER) for key in (KEY, OTHER, ELSEWHERE)]
        assert call(guards, KEY)
        clock.advance(kept - 1)
        assert not call(guards, KEY, who=USER)
        clock.advance(1)

        assert call(guards, KEY, who=USER)


def test_what_does_not_count(clock: ManualClock) -> None:
    """Throttling and calls that were given up open no breaker, and the latter leave their try to the next call."""
    guards = Guards(clock, GuardSettings())
    for _ in range(20):
        call(guards, answer=failure(Unavailable))
        call(guards, answer=KeyboardInterrupt())

    assert [] == guards.silent()

    guards = opened(clock)

    assert [True, True] == [call(guards, KEY, KeyboardInterrupt()) for _ in range(2)]


def test_law_5_cut_off_proves_nothing(clock: ManualClock) -> None:
    """Law 5: whoever is cut off is told that the vault did not answer, and that this does not count."""
    guards = opened(clock)
    call(guards, answer=SILENCE)
    with pytest.raises(Unavailable) as cut, guards.around(KEY, Account("acme"), Operation.UNWRAP):
        raise AssertionError("the vault was asked")

    assert (False, "breaker", KEY) == (cut.value.counts, cut.value.raw, cut.value.uri)


def test_rate(clock: ManualClock) -> None:
    """A vault is called in bursts up to a bound, then at its rate; in 10 s never more than the vendor allows."""
    settings = GuardSettings()
    guards, made = Guards(clock, settings), 0
    for _ in range(1000):
        made += sum(call(guards) for _ in range(5))
        clock.advance(0.01)

    assert settings.vault_burst + 10 * settings.vault_rate == pytest.approx(made, abs=2)
    assert made <= 2000


def test_many_tenants(clock: ManualClock) -> None:
    """The background work of many tenants together leaves the last part of a vault's rate to people and probes."""
    settings = GuardSettings()
    guards = Guards(clock, settings)
    background = sum(call(guards, who=service("reencrypt"), tenant=f"t{n % 100}") for n in range(1000))

    assert settings.vault_burst * (1 - settings.reserve) == background
    assert call(guards, who=USER)
    assert call(guards)


def test_budget(clock: ManualClock) -> None:
    """A tenant's background work leaves the last part of the budget to people, and neither keeps probes from it."""
    settings = GuardSettings(vault_burst=1000)
    guards = Guards(clock, settings)
    background = sum(call(guards, who=service("reencrypt")) for _ in range(500))
    people = sum(call(guards, who=USER) for _ in range(500))

    assert (150, 50) == (background, people)
    assert call(guards)

    clock.advance(1)

    assert [False, True] == [call(guards, who=service("reencrypt")), call(guards, who=USER)]


def test_neighbours(clock: ManualClock) -> None:
    """Whatever one tenant's people and background work spend at a vault that tenants share, another's is not less."""
    settings = GuardSettings()
    guards = Guards(clock, settings)
    for who in (service("reencrypt"), USER):
        while call(guards, who=who, tenant="greedy"):
            pass
    left = sum(call(guards, who=service("reencrypt"), tenant="modest") for _ in range(500))
    people = sum(call(guards, who=USER, tenant="modest") for _ in range(500))

    # Of the vault's burst one tenant takes no more than its own: the rest is enough for its neighbour's whole budget.
    assert settings.tenant_burst == left + people
    assert not call(guards, who=USER, tenant="greedy")
