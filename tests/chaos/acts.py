"""What tenants do while things go wrong, drawn by chance: import, read, move, assign, roll, revoke, deny."""

from collections.abc import Callable
from random import Random

from tests.chaos.stage import Stage
from tests.chaos.tenants import Tenants
from tests.servers.openbao import Refused

SERVICE, STEADY = "service", "steady"


class Acts(Tenants):
    """Act by chance."""

    def __init__(self, stage: Stage, order: Random, names: list[str]) -> None:
        super().__init__(stage, order, names)
        self._under: dict[str, str] = {}
        self._acts: list[tuple[int, Callable[[str], None]]] = [
            (4, self._deliver),
            (6, self._read),
            (2, self._file),
            (3, self._read_files),
            (4, self._move),
            (2, self._move_site),
            (4, self._assign),
            (3, self._roll),
            (1, self._roll_site),
            (2, self._hold),
            (1, self._deny),
        ]

    def act(self) -> None:
        """Do one thing, whatever comes of it."""
        tenant = self._order.choice(self.names)
        weights, acts = zip(*self._acts, strict=True)
        (act,) = self._order.choices(acts, weights)
        act(tenant)

    def _ask(self, *arguments: str) -> None:
        self.type(*arguments, "--no-wait")

    def _any(self, tenant: str) -> str:
        kind = self._order.choice(["mover", "switcher", "roller", "holder"])
        return f"{kind}@{tenant}.example"

    def _deliver(self, tenant: str) -> None:
        self.deliver(self._any(tenant))

    def _read(self, tenant: str) -> None:
        self.read(self._any(tenant))

    def _file(self, tenant: str) -> None:
        self.file(tenant)

    def _read_files(self, tenant: str) -> None:
        self.read_site(tenant)

    def _move(self, tenant: str) -> None:
        self._ask("mailbox", "move", f"mover@{tenant}.example")

    def _move_site(self, tenant: str) -> None:
        self._ask("site", "move", f"{tenant}/plans")

    def _assign(self, tenant: str) -> None:
        policy = SERVICE if self._under.get(tenant) == STEADY else STEADY
        self._under[tenant] = policy
        name = policy if policy == SERVICE else f"{tenant}/{policy}"
        self._ask("policy", "assign", name, "--mailbox", f"switcher@{tenant}.example")

    def _roll(self, tenant: str) -> None:
        self._ask("policy", "refresh", f"{tenant}/rolled", "--new-policy-key")

    def _roll_site(self, tenant: str) -> None:
        self._ask("policy", "refresh", f"{tenant}/docs", "--new-policy-key")

    def _hold(self, tenant: str) -> None:
        policy = f"{tenant}/held"
        if policy in self.held | self.unsure:
            return self._give_back(policy)
        # From here on it may be revoked, whatever the command says.
        if self.type("policy", "revoke", policy, seconds=20).code == 0:
            self.revoked[policy] += 1
            self.held.add(policy)
            self.read(f"holder@{tenant}.example")
        else:
            self.maybe_revoked[policy] += 1
            self.unsure.add(policy)
        return None

    def _give_back(self, policy: str) -> None:
        self.held.discard(policy)
        self.unsure.add(policy)
        if self.type("policy", "restore", policy).code == 0:
            self.unsure.discard(policy)

    def _deny(self, tenant: str) -> None:
        """Take both keys of a policy away in their vaults, or give them back."""
        if f"{tenant}/held" in self.denied:
            self.allow(tenant)
        else:
            self._take_away(tenant)

    def _take_away(self, tenant: str) -> None:
        policy, key = f"{tenant}/held", f"{tenant}-held"
        self.denied.add(policy)
        for vault in self._stage.vaults:
            try:
                vault.mount.soft_delete(key)
            except Refused as sealed:
                assert sealed.status == 503, sealed  # noqa: PT017
                return

    def allow(self, tenant: str) -> None:
        """Give both keys of a policy back, where their vaults are not sealed."""
        for vault in self._stage.vaults:
            try:
                if vault.mount.read(f"{tenant}-held").get("soft_deleted"):
                    vault.mount.restore(f"{tenant}-held")
            except Refused as sealed:
                assert sealed.status == 503, sealed  # noqa: PT017
                return
        self.denied.discard(f"{tenant}/held")

    def deny_well(self, tenant: str) -> None:
        """Take both keys away while nothing is wrong, and see that nobody reads once that is known."""
        policy = f"{tenant}/held"
        self._take_away(tenant)
        self.ever_denied.add(policy)
        self._stage.fleet.until(lambda: self.read(f"holder@{tenant}.example").code == 1)

    def allow_well(self, tenant: str) -> None:
        """Give both keys back while nothing is wrong, and wait until that is known: a refusal is kept for a while."""
        self.allow(tenant)
        self._stage.fleet.until(lambda: self.read(f"holder@{tenant}.example").code == 0)

    def settle(self) -> None:
        """Give everything back, and do what was not acknowledged until it is."""
        for tenant in self.names:
            self.allow(tenant)
            assert f"{tenant}/held" not in self.denied
            if f"{tenant}/held" in self.held | self.unsure:
                self._restored(f"{tenant}/held")
        for box in self.boxes.values():
            self.import_open(box, self.insist)
        for site in self.sites.values():
            self.import_files(site, self.insist)
        # What could not leave with the command that asked for it leaves with the next one that asks for anything.
        self.insist("mailbox", "move", f"mover@{self.names[0]}.example")

    def _restored(self, policy: str) -> None:
        if self.insist("policy", "show", policy).document["state"] == "revoked":
            self.insist("policy", "restore", policy)
        self.held.discard(policy)
        self.unsure.discard(policy)
