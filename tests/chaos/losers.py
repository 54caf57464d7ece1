"""A tenant that loses both root keys while things go wrong, and recovers with two signatures."""

from collections import Counter
from pathlib import Path

from tests.chaos.acts import Acts
from tests.chaos.stage import STARTING, Stage
from tests.chaos.tenants import bodies
from tests.fleet.installation import mail_in
from twinlock.keys.signing import SigningKey, public_to_pem

TENANT, POLICY, ADDRESS = "losers", "losers/lost", "lost@losers.example"
PEOPLE = ("ann", "bob")


class Losers:
    """Lose the keys of a policy, ask for its recovery, and sign."""

    def __init__(self, stage: Stage, tenants: Acts) -> None:
        self.kept: Counter[bytes] = Counter()
        self._stage = stage
        self._tenants = tenants
        self._folder = stage.folder / "losers"
        self._request = ""
        self._signed: list[str] = []

    def begin(self) -> None:
        """Make everything, and take both keys away for good."""
        ask = self._tenants.insist
        self.kept = mail_in(self._folder / "mail", 6, "canary-81c0de6b7f")
        ask("tenant", "add", TENANT)
        self._tenants.make_policy(TENANT, "lost")
        ask("mailbox", "add", ADDRESS, "--tenant", TENANT)
        ask("mailbox", "import", ADDRESS, str(self._folder / "mail"))
        ask("policy", "assign", POLICY, "--mailbox", ADDRESS)
        for name in PEOPLE:
            key = SigningKey.generate()
            self._private(name).write_bytes(key.to_pem())
            public = self._folder / f"{name}.pub"
            public.write_bytes(public_to_pem(key.public))
            ask("approver", "add", TENANT, name, "--public-key", str(public))
        self._tenants.make_keys("losers-found")
        for vault in self._stage.vaults:
            vault.mount.destroy("losers-lost")

    def go_on(self) -> None:
        """Take the next step, whatever comes of it: ask, sign, sign."""
        if not self._request:
            keys = self._tenants.keys("losers-found")
            ran = self._tenants.type("recovery", "request", POLICY, *keys, "--reason", "both lost", seconds=15)
            self._request = ran.document["id"] if ran.code == 0 else ""
        elif len(self._signed) < len(PEOPLE):
            name = PEOPLE[len(self._signed)]
            by = ("--by", name, "--private-key", str(self._private(name)), "--no-wait")
            ran = self._tenants.type("approval", "approve", self._request, *by)
            if ran.code == 0 or "has signed" in ran.err:
                self._signed.append(name)

    def finish(self) -> None:
        """Take every step that is left, and wait until the policy is on its new keys, once."""
        fleet = self._stage.fleet

        def over() -> bool:
            if len(self._signed) < len(PEOPLE):
                self.go_on()
                return False
            return bool(self._tenants.insist("recovery", "show", self._request).document["state"] == "done")

        fleet.until(over, STARTING)

    def check(self) -> None:
        """See that the mailbox is whole."""
        target = self._folder / "out"
        self._tenants.insist("mailbox", "export", ADDRESS, str(target))

        assert self.kept == bodies(target)

    def _private(self, name: str) -> Path:
        return self._folder / f"{name}.key"
