"""Every cell of the decision table, against the real custodian: rows, vaults, cache, evidence, audit and alerts."""

from itertools import product
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import update

from schemas.identifiers import AvailabilityMode, PolicyState, Workload
from tests.decision_table import cell_of
from twinlock.custody.errors import KeyNotYet, KeyRefused
from twinlock.custody.port import USER, ContainerRef, Initiator, service
from twinlock.keys.ports import Outcome
from twinlock.store.tables.custody import availability_keys

if TYPE_CHECKING:
    from tests.integration.custody.conftest import Custody

SERVICE = service("index")
PRESENT, DESTROYED = "present", "destroyed"
# Of a key that fails so, what is told and to whom.
TOLD = {
    "denied": [("key-revoked", "customer")],
    "misconfigured": [("identity-failure", "engineering")],
    "corrupt": [("corrupt-wrap", "engineering")],
}
ROOT, AVAILABILITY, REFUSED = "by a root key", "by the availability key", "refused"


async def called(custody: "Custody", ref: ContainerRef, initiator: Initiator) -> tuple[str, bool]:
    """Open a container key, if it has to with the time of evidence: by which key, and may it be kept?"""
    try:
        try:
            opened = await custody.open(ref, initiator)
        except KeyNotYet:
            opened = await custody.open_patiently(ref, initiator)
    except KeyRefused:
        return REFUSED, False
    return (AVAILABILITY if opened.by_availability_key else ROOT), opened.keep_seconds > 0


def wanted(cell: str, key: str) -> tuple[str, bool]:
    """Say what a cell of the table means where the availability key is in this state."""
    if cell == "S":
        return ROOT, True
    if cell == "-" or key != PRESENT:
        return REFUSED, False
    return AVAILABILITY, cell == "u"  # after a denial it serves one call and is never kept (law 7)


def alerts_of(slots: tuple[str, str], cells: set[str], key: str) -> set[tuple[str, str]]:
    """Return what is told, and to whom, of keys that both fail."""
    ours = {"unclear", "misconfigured", "corrupt"} & set(slots)
    told = {alert for slot in slots for alert in TOLD.get(slot, ())}
    told.add(("policy-unhealthy", "engineering" if ours else "customer"))
    if cells & {"u", "d"}:
        told.add(
            ("availability-key-used", "customer") if key == PRESENT else ("availability-key-failed", "engineering")
        )
    return told


async def a_policy(custody: "Custody", name: str, mode: AvailabilityMode, workload: Workload, key: str) -> ContainerRef:
    """Make a policy with one container, and bring its availability key into a state."""
    ref = await custody.container(await custody.policy(name, mode, workload), f"box-{name}", workload)
    if key == DESTROYED:
        async with custody.store.begin(custody.asker().cause) as unit:
            row = availability_keys.c
            await unit.execute(update(availability_keys).where(row.policy_id == name).values(state="destroyed"))
    return ref


@pytest.mark.parametrize("key", [PRESENT, DESTROYED])
@pytest.mark.parametrize("mode", AvailabilityMode)
@pytest.mark.parametrize("workload", Workload)
async def test_every_cell(custody: "Custody", workload: Workload, mode: AvailabilityMode, key: str) -> None:
    """Whatever two root keys come to, whoever asks gets what the table says; it is audited and told."""
    for number, slots in enumerate(product(Outcome, Outcome)):
        name = f"p{number}"
        ref = await a_policy(custody, name, mode, workload, key)
        custody.hold(name, *slots)
        cells = {who: cell_of(slots, mode, who.kind) for who in (USER, SERVICE)}
        for who, cell in cells.items():
            used = custody.availability_asked(name)
            custody.restart()
            found = await called(custody, ref, who)

            assert (slots, who.kind, *wanted(cell, key)) == (slots, who.kind, *found)
            assert (AVAILABILITY == found[0]) == (custody.availability_asked(name) > used)
        if Outcome.OK not in slots:
            assert alerts_of(slots, set(cells.values()), key) == await told_of(custody, name)
        assert (key == PRESENT and not {"u", "d"}.isdisjoint(cells.values())) == await audited(custody, name)


async def told_of(custody: "Custody", policy: str) -> set[tuple[str, str]]:
    """Return which kinds of alerts were raised about a policy, and to whom."""
    alerts = await custody.events("alert.raised")
    return {(alert["kind"], alert["audience"]) for alert in alerts if alert["policy"] == policy}


async def audited(custody: "Custody", policy: str) -> bool:
    """Tell whether a use of the availability key is in the audit log."""
    return any((entry.kind, entry.policy_id) == ("availability-key-asked", policy) for entry in await custody.audit())


@pytest.mark.parametrize("state", [state for state in PolicyState if state is not PolicyState.ACTIVE])
@pytest.mark.parametrize("workload", Workload)
async def test_not_active(custody: "Custody", workload: Workload, state: PolicyState) -> None:
    """A policy that is not active is refused in every mode, whoever asks, and no vault is asked."""
    for mode, who in product(AvailabilityMode, (USER, SERVICE)):
        name = f"{mode}-{who.kind}"
        ref = await a_policy(custody, name, mode, workload, PRESENT)
        await custody.set_state(name, state)
        before = custody.asked(name), custody.availability_asked(name)

        assert (REFUSED, False) == await called(custody, ref, who)
        assert before == (custody.asked(name), custody.availability_asked(name))
