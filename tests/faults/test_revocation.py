"""Revocation and outage on the command line, where every command is a start of the program."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from twinlock.custody.errors import KeyRefused
from twinlock.custody.port import USER, Asker, Initiator, service
from twinlock.custody.settings import CustodySettings, EvidenceRules
from twinlock.store.unit import Cause

if TYPE_CHECKING:
    from cli.wiring import Parts
    from tests.faults.conftest import Home

ANN = "ann@acme.example"
KEYS = ("local://p1/key", "local://p2/key")
VAULTS = ("p1", "p2")
DENIED = "the customer denied the use of the root keys"
MODES = ("strict", "recovery-only", "none")


@pytest.fixture(scope="session")
def protected(filled: "Home", tmp_path_factory: pytest.TempPathFactory) -> "Home":
    """Return a home with ann's mail under policy p of mode standard, and a policy of each other mode with the keys."""
    home = filled.copy(tmp_path_factory.mktemp("protected") / "home")
    keys = [word for uri in KEYS for word in ("--key", uri)]
    for mode in MODES:
        home.ask("policy", "create", "--tenant", "acme", "--name", mode, "--workload", "mailbox", "--mode", mode, *keys)
    home.ask("policy", "assign", "acme/p", "--mailbox", ANN)
    return home


@pytest.fixture
def home(protected: "Home", tmp_path: Path) -> "Home":
    """Return a copy of the home with the protected mailbox."""
    return protected.copy(tmp_path / "home")


@pytest.fixture(autouse=True)
def _short_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"EVIDENCE__OVER_SECONDS": "0.5", "RETRY_PAUSE": "0.1", "RETRY_PAUSE_CAP": "0.2"}.items():
        monkeypatch.setenv(f"TWINLOCK_CUSTODY__{name}", value)


def switch(home: "Home", action: str) -> None:
    """Disable or enable both root keys."""
    for uri in KEYS:
        home.ask("key", action, uri)


def outage(home: "Home", state: str) -> None:
    """Cut off both vaults, or bring them back."""
    for vault in VAULTS:
        home.ask("vault", "outage", vault, state)


def export(home: "Home", *options: str) -> list[str]:
    """Return the words of an export to a place of its own."""
    return ["mailbox", "export", ANN, str(home.path.with_name("refused")), *options]


def audited(home: "Home") -> list[tuple[str, str | None]]:
    """Return what the audit log says of keys that were asked for and handed out: the kind, and what opened them."""
    return [(entry.kind, entry.detail.get("opened_by")) for entry in home.audit()]


def test_law_4_denial_outlasts_outage(home: "Home") -> None:
    """Law 4: after both keys are disabled, cutting off both vaults serves no user, in no later process."""
    before = home.exported(ANN)
    switch(home, "disable")

    assert DENIED in home.refused(*export(home))
    outage(home, "on")
    for _ in range(3):
        assert DENIED in home.refused(*export(home))
    assert not home.path.with_name("refused").exists()
    outage(home, "off")

    assert DENIED in home.refused(*export(home))
    switch(home, "enable")

    assert before == home.exported(ANN)


def test_law_4_one_vault_at_a_time(home: "Home") -> None:
    """Law 4: one key denied and the other vault unreachable is a denial, and stays one when the first goes as well."""
    home.ask("key", "disable", KEYS[0])
    home.ask("vault", "outage", VAULTS[1], "on")

    assert DENIED in home.refused(*export(home))
    home.ask("vault", "outage", VAULTS[0], "on")

    assert DENIED in home.refused(*export(home))
    home.ask("vault", "outage", VAULTS[1], "off")

    assert home.exported(ANN)


def test_law_6_no_way_out(home: "Home") -> None:
    """Law 6: while both keys are denied no revert, other policy, roll or move leads out of the policy."""
    switch(home, "disable")
    outage(home, "on")
    keys = home.rows("SELECT * FROM container_keys")
    for words in (
        ["policy", "assign", "service", "--mailbox", ANN],
        ["policy", "assign", "service", "--all-mailboxes", "--tenant", "acme"],
        ["policy", "assign", "acme/q", "--mailbox", ANN],
        ["policy", "refresh", "acme/p"],
        ["policy", "refresh", "acme/p", "--new-policy-key"],
        ["mailbox", "move", ANN],
    ):
        home.refused(*words)

    assert keys == home.rows("SELECT * FROM container_keys")
    home.assert_quiet()


def test_law_7_service_read_leaves_nothing(home: "Home") -> None:
    """Law 7: after a denial the service is served in mode standard, audited, and no user read is served by it."""
    before = home.exported(ANN)
    switch(home, "disable")
    home.refused(*export(home))
    outage(home, "on")
    start = len(audited(home))

    assert before == home.exported(ANN, "--as", "service:index")
    served = audited(home)[start:]

    assert ("availability-key-asked", None) == served[0]
    assert {"availability-key-asked", "container-key-opened"} == {kind for kind, _ in served}
    assert DENIED in home.refused(*export(home))


def test_law_7_one_process(home: "Home") -> None:
    """Law 7: what one process opened for the service after a denial serves no user of the same process."""
    switch(home, "disable")
    home.refused(*export(home))

    async def take_turns(parts: "Parts") -> list[int]:
        (first, *_) = [item.id async for item in parts.items.list(ANN)]
        served = []
        for _ in range(2):
            with pytest.raises(KeyRefused):
                await read(parts, first, USER)
            served.append(len(await read(parts, first, service("index"))))
        return served

    assert [20, 20] == home.within(take_turns)


async def read(parts: "Parts", item: str, initiator: Initiator) -> bytes:
    """Read an item on somebody's behalf."""
    asker = Asker(initiator, Cause("test"))
    return b"".join([chunk async for chunk in parts.items.get(ANN, item, asker)])


def test_law_5_outage_is_proven_first(home: "Home") -> None:
    """Law 5: with both vaults unreachable a user waits for the evidence, and is then served by the availability key."""
    before = home.exported(ANN)
    outage(home, "on")
    start = len(audited(home))

    assert "can't be opened yet" in home.refused(*export(home), "--timeout", "0.2", code=3)
    assert "availability-key-asked" not in [kind for kind, _ in audited(home)[start:]]
    assert before == home.exported(ANN)
    assert ("availability-key-asked", None) in audited(home)[start:]


def test_law_5_defaults() -> None:
    """Law 5: by default an outage is proven by three failures over 30 seconds, none older than two minutes."""
    assert EvidenceRules(failures=3, over_seconds=30.0, fresh_seconds=120.0) == CustodySettings().evidence


@pytest.mark.parametrize("mode", ["recovery-only", "none"])
@pytest.mark.parametrize("reader", ["user", "service:index"])
def test_outage_in_other_modes(home: "Home", mode: str, reader: str) -> None:
    """In the modes recovery-only and none an outage of both vaults serves nobody, however long it lasts."""
    home.ask("policy", "assign", f"acme/{mode}", "--mailbox", ANN)
    outage(home, "on")
    for _ in range(2):
        home.refused(*export(home, "--as", reader))
    outage(home, "off")

    assert home.exported(ANN, "--as", reader)


@pytest.mark.parametrize("mode", MODES)
def test_denied_in_other_modes(home: "Home", mode: str) -> None:
    """In every mode but standard a denial counts for the service as well."""
    home.ask("policy", "assign", f"acme/{mode}", "--mailbox", ANN)
    switch(home, "disable")

    assert DENIED in home.refused(*export(home, "--as", "service:index"))
    outage(home, "on")

    assert DENIED in home.refused(*export(home, "--as", "service:index"))
