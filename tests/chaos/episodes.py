"""What a vault's trouble has to tell: the right alert of the right policies while it lasts, and afterwards its end."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from schemas.identifiers import AlertState, Audience, PolicyHealth
from tests.chaos.acts import Acts
from tests.chaos.stage import STARTING, Stage
from twinlock.custody.decision import ROOT_SLOTS
from twinlock.keys.ports import Outcome

ALERTS = """
SELECT a.kind, a.audience, a.state, a.slot, a.times, a.detail, coalesce(t.name || '/' || p.name, a.policy) AS policy
FROM alerts a LEFT JOIN policies p ON p.id = a.policy LEFT JOIN tenants t ON t.id = p.tenant_id
"""
STANDING = {"policy-degraded", "policy-unhealthy", "key-revoked", "identity-failure", "availability-key-used"}
_HEALTH = """
SELECT t.name || '/' || p.name AS policy, p.health FROM policies p JOIN tenants t ON t.id = p.tenant_id
"""
_KINDS = {1: "policy-degraded", 2: "policy-unhealthy"}  # by how many of the two vaults are in trouble


class Episodes:
    """Watch the policies whose keys nobody takes away: of them, nothing but the vaults' trouble is told."""

    def __init__(self, stage: Stage, tenants: Acts) -> None:
        self._stage = stage
        self._tenants = tenants
        self._policies = {f"{name}/{policy}" for name in tenants.names for policy in ("steady", "docs")}

    def well(self) -> None:
        """Wait until no trouble of the vaults is told any more: before they get into some, and after it."""
        self._until(self._ill)

    @contextmanager
    def lasting(self) -> Iterator[None]:
        """Have trouble go on, once everything else is well again, until the fleet has told of it.

        Nothing is asked of an episode that ends while something else is wrong: it may be too short.
        """
        yield
        self._stage.staff()
        self._until(self._untold)

    def _until(self, left: Callable[[], set[str]]) -> None:
        """Have the tenants read what is left until nothing is: of keys that nobody uses, nobody learns anything."""

        def done() -> bool:
            found = left()
            for policy in sorted(found):
                self._use(policy)
            return not found

        try:
            self._stage.fleet.until(done, STARTING)
        except AssertionError as stuck:
            raise AssertionError(f"{self._stage.ailing} {sorted(left())}: {self._stage.fleet.rows(ALERTS)}") from stuck

    def _use(self, policy: str) -> None:
        tenant, _, name = policy.partition("/")
        if name == "docs":
            self._tenants.read_site(tenant)
        else:
            self._tenants.read(f"mover@{tenant}.example")

    def _untold(self) -> set[str]:
        """Return the policies of which no alert says that just these keys do not answer."""
        told = {row["policy"] for row in self._open() if self._fits(row)}
        return self._policies - told

    def _fits(self, row: dict[str, Any]) -> bool:
        ailing = self._stage.ailing
        said = [f"root key {ROOT_SLOTS[number]} {outcome}" in row["detail"] for number, outcome in ailing.items()]
        audience = Audience.ENGINEERING if Outcome.UNCLEAR in ailing.values() else Audience.CUSTOMER
        return all(said) and (row["kind"], row["audience"]) == (_KINDS[len(ailing)], audience)

    def _ill(self) -> set[str]:
        """Return the policies that do not look well, or of which an alert is open."""
        health = self._stage.fleet.rows(_HEALTH)
        ill = {row["policy"] for row in health if row["health"] != PolicyHealth.HEALTHY}
        return self._policies & (ill | {row["policy"] for row in self._open()})

    def _open(self) -> list[dict[str, Any]]:
        found = self._stage.fleet.rows(ALERTS)
        return [row for row in found if row["state"] == AlertState.OPEN and row["kind"] in STANDING]
