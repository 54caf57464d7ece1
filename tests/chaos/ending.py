"""The end of a run: nothing is wrong any more, all work is waited for, and then everything is looked at."""

from collections import Counter
from collections.abc import Callable, Iterator

from schemas.identifiers import AlertState
from tests.chaos.acts import Acts
from tests.chaos.episodes import ALERTS, STANDING
from tests.chaos.losers import PEOPLE, POLICY, Losers
from tests.chaos.portal import Portal
from tests.chaos.report import Report
from tests.chaos.stage import QUIET, Stage

_REQUESTS = "SELECT type, outcome, count(*) AS many FROM requests GROUP BY type, outcome"
# A site's files stay under the key that they were written with until the site is moved.
_GENERATIONS = """
SELECT c.name, c.newest_generation AS newest, count(k.generation) FILTER (
    WHERE k.generation < c.newest_generation AND (c.workload = 'mailbox' OR k.item_count = 0)) AS left_over
FROM containers c JOIN container_keys k ON k.container_id = c.id GROUP BY c.name, c.newest_generation
"""
_COUNTS = """
SELECT c.name, k.generation, k.item_count AS said, (SELECT count(*) FROM items i
    WHERE i.container_id = k.container_id AND i.generation = k.generation) + (SELECT count(*) FROM files f
    WHERE f.container_id = k.container_id AND f.generation = k.generation) AS there
FROM container_keys k JOIN containers c ON c.id = k.container_id
"""
_KEYS = """
SELECT t.name || '/' || p.name AS policy, max(g.generation) AS newest, count(*) AS many
FROM policies p JOIN tenants t ON t.id = p.tenant_id JOIN policy_keys g ON g.policy_id = p.id GROUP BY 1
"""
_REVOKED = """
SELECT t.name || '/' || p.name AS policy, count(*) AS many FROM revocations r JOIN policies p ON p.id = r.policy_id
JOIN tenants t ON t.id = p.tenant_id WHERE r.state = 'revoked' GROUP BY 1
"""
# What a policy's alerts may tell of, beside what its tenant did to it: the vaults were in trouble, or seemed to be.
_OF_VAULTS = {"policy-degraded", "policy-unhealthy", "identity-failure", "availability-key-used", "tik-refresh-failing"}


def same(expected: object, found: object, why: object) -> None:
    """Raise what is not as expected, and why it should be: outside of pytest a bare assertion says nothing."""
    if expected != found:
        raise AssertionError(f"{why}: not {expected} but {found}")


class Ending:
    """Look at everything that has to hold."""

    def __init__(
        self, stage: Stage, tenants: Acts, losers: Losers, portal: Portal, report: Report, secrets: Callable[[], None]
    ) -> None:
        self._stage = stage
        self._fleet = stage.fleet
        self._tenants = tenants
        self._losers = losers
        self._portal = portal
        self._report = report
        self._secrets = secrets  # raises what is found of them

    def look(self) -> None:
        """Go through all of it; each thing that does not hold is reported, and the next one is looked at."""
        for name, check in self._checks():
            self._report.held(name, check)

    def _checks(self) -> Iterator[tuple[str, Callable[[], None]]]:
        yield "everybody is ready, nobody ended by himself", self._everybody
        yield "outbox, queues and jobs are empty", lambda: self._fleet.quiet(QUIET)
        yield "every acknowledged item is identical", self._content
        yield "every effect is there once", self._effects
        yield "every confirmed request is carried out once", lambda: same([], self._portal.wrong(), "outsiders asked")
        yield "every dead letter is explained", self._letters
        yield "alerts match the episodes", self._alerts
        yield "the audit log is intact", self._audit
        yield "nobody asked the database for more than is his", self._rights
        yield "no content and no key is in a log, a message or a table", self._secrets

    def _everybody(self) -> None:
        self._stage.staff()

    def _content(self) -> None:
        for address, box in self._tenants.boxes.items():
            ran = self._tenants.read(address)
            same((0, []), (ran.code, box.open), ran)
        for name, site in self._tenants.sites.items():
            ran = self._tenants.read_site(name)
            same((0, {}), (ran.code, site.open), ran)
        self._losers.check()

    def _effects(self) -> None:
        same([], [row for row in self._fleet.rows(_COUNTS) if row["said"] != row["there"]], "counts are not exact")
        found = self._fleet.rows(_GENERATIONS)
        same([], [row for row in found if row["left_over"]], "an old key was left")
        newest = {row["name"]: row["newest"] for row in found}
        keys = {row["policy"]: row["newest"] for row in self._fleet.rows(_KEYS)}
        same([], [row for row in self._fleet.rows(_KEYS) if row["many"] != 1], "an old policy key was left")
        done = Counter({row["type"]: row["many"] for row in self._fleet.rows(_REQUESTS) if row["outcome"] == "done"})
        moves = sum(count - 2 for name, count in newest.items() if name.startswith("mover@"))
        same(done["twinlock.move.requested.v1"], moves, "each move makes one key")
        same(2, keys.pop(POLICY), "a recovery makes one policy key")
        rolled = sum(count - 1 for count in keys.values())
        same(done["twinlock.refresh.requested.v1"], rolled, "each roll makes one policy key")
        asked = self._tenants.attempts
        most = asked["mailbox move"] + len(self._portal.taken)
        same(True, moves <= most and rolled <= asked["policy refresh"], "nobody asked for it")

    def _letters(self) -> None:
        letters = self._fleet.rows("SELECT id, consumer, type, reason FROM dead_letters")
        same([], [row for row in letters if row["id"] not in self._stage.forged], "it was nobody's forgery")
        same(self._stage.forged, {row["id"] for row in letters}, "each forged fact is a dead letter")

    def _alerts(self) -> None:
        self._fleet.until(lambda: not self._standing(), QUIET)
        found = self._fleet.rows(ALERTS)
        revoked = {row["policy"]: row["many"] for row in self._fleet.rows(_REVOKED)}
        told = Counter[str]()
        for row in found:
            told[row["policy"]] += row["times"] * (row["kind"] == "policy-revoked")
        same(revoked, dict(+told), "each revocation is told once")
        for policy, count in revoked.items():
            known = self._tenants.revoked[policy]
            same(True, known <= count <= known + self._tenants.maybe_revoked[policy], f"{policy}: {known}, {count}")
        same([], [row for row in found if not self._explained(row)], "nothing happened that it tells of")
        denied = {(row["policy"], row["slot"]) for row in found if row["kind"] == "key-revoked"}
        wanted = {(policy, slot) for policy in {*self._tenants.ever_denied, POLICY} for slot in "ab"}
        same(set(), wanted - denied, "each denied key is told")
        kinds = {row["kind"] for row in found if row["policy"] == POLICY}
        same(True, {"policy-unhealthy", "recovery"} <= kinds, f"a recovery is told: {kinds}")
        added = sum(row["times"] for row in found if row["kind"] == "approver-change")
        same(len(PEOPLE), added, "each approver is told")
        same(bool(self._stage.forged), "dead-letter" in {row["kind"] for row in found}, "dead letters are told")

    def _standing(self) -> list[dict[str, object]]:
        """Return alerts that are open though nothing is wrong; somebody reads, or nobody would ask the keys."""
        for address in self._tenants.boxes:
            self._tenants.read(address)
        for name in self._tenants.names:
            self._tenants.read_site(name)
        found = self._fleet.rows(ALERTS)
        return [row for row in found if row["state"] == AlertState.OPEN and row["kind"] in STANDING]

    def _explained(self, row: dict[str, object]) -> bool:
        policy, kind = str(row["policy"]), row["kind"]
        lost = {*self._tenants.ever_denied, POLICY}
        if kind in _OF_VAULTS:
            return policy in lost or self._report.struck("vault")
        if kind == "key-revoked":
            return policy in lost
        if kind in ("policy-revoked", "policy-restored"):
            return policy.endswith("/held")
        if kind == "recovery":
            return policy == POLICY
        if kind == "approver-change":
            return row["times"] == len(PEOPLE)
        return kind == "dead-letter" and bool(self._stage.forged)

    def _audit(self) -> None:
        self._fleet.until(lambda: self._fleet.ask("audit", "verify")["unsealed"] == 0)
        found = self._fleet.ask("audit", "verify")

        same((True, None), (found["intact"], found["first_broken"]), found)

    def _rights(self) -> None:
        same([], self._fleet.denied(), "it was refused")
