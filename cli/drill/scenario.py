"""What a drill does to the root keys of its sandbox, and how long access may outlive that by the settings."""

from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum

from schemas.identifiers import AvailabilityMode, PolicyState, Workload
from twinlock.custody.decision import AvailabilityKeyState, Evidence, Outcomes, Result, decide
from twinlock.custody.fate import bound_seconds, silent_bound_seconds
from twinlock.custody.port import InitiatorClass
from twinlock.custody.settings import CustodySettings
from twinlock.keys.ports import Outcome
from twinlock.vaults.software.local import LocalVault

ROOTS = ("local://drill-a/root", "local://drill-b/root")
_VAULTS = ("drill-a", "drill-b")
_PROVEN = Evidence(a=True, b=True, witness=True)


class Scenario(StrEnum):
    """What happens to both root keys."""

    REVOKE = "revoke"
    OUTAGE = "outage"
    LOSE_BOTH = "lose-both"

    @property
    def outcomes(self) -> Outcomes:
        """Return what both keys come to."""
        found = Outcome.UNAVAILABLE if self is Scenario.OUTAGE else Outcome.DENIED
        return found, found

    def at_most_seconds(self, settings: CustodySettings, workload: Workload) -> float:
        """Return for how long a key that was opened before may be in use, by the settings."""
        if self is Scenario.OUTAGE:
            return silent_bound_seconds(settings, workload)
        return bound_seconds(settings)

    def refuses(self, initiator: InitiatorClass, mode: AvailabilityMode, availability: AvailabilityKeyState) -> bool:
        """Say whether the decision table refuses in the end."""
        decision = decide(
            state=PolicyState.ACTIVE,
            mode=mode,
            initiator=initiator,
            slots=self.outcomes,
            evidence=_PROVEN,
            availability=availability,
        )
        return decision.result is Result.REFUSE


def of_mode(mode: AvailabilityMode) -> AvailabilityKeyState:
    """Return how it stands with the availability key of a policy that was just made."""
    return AvailabilityKeyState.ABSENT if mode is AvailabilityMode.NONE else AvailabilityKeyState.PRESENT


async def strike(scenario: Scenario, vault: LocalVault) -> None:
    """Do it to both keys of the sandbox."""
    if scenario is Scenario.OUTAGE:
        for name in _VAULTS:
            await vault.set_outage(name, True)
    else:
        await _each(vault.disable if scenario is Scenario.REVOKE else vault.delete, ROOTS)


async def mend(scenario: Scenario, vault: LocalVault) -> None:
    """Have one key answer again, as its owner would; what is lost can't be mended."""
    if scenario is Scenario.OUTAGE:
        await vault.set_outage(_VAULTS[0], False)
    elif scenario is Scenario.REVOKE:
        await vault.enable(ROOTS[0])


async def _each(change: Callable[[str], Awaitable[object]], uris: Sequence[str]) -> None:
    for uri in uris:
        await change(uri)
