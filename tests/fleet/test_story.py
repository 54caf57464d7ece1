"""The stories of a mailbox and of a site told by separate processes, two of each worker."""

import json
from collections import Counter
from pathlib import Path

from schemas.names import AUDIT_SEALER
from tests.fleet.conftest import brought_out, make_policy, make_site
from tests.fleet.installation import WORKERS, Fleet, mail_in

ANN = "ann@acme.example"


def test_story(fleet: Fleet, tmp_path: Path) -> None:
    """Created, imported, assigned, moved, rolled and reverted, a mailbox still returns every byte."""
    mail = mail_in(tmp_path / "mail", 30)
    make_policy(fleet, "story")
    fleet.ask("mailbox", "add", ANN, "--tenant", "acme")
    imported = fleet.ask("mailbox", "import", ANN, str(tmp_path / "mail"))
    assigned = fleet.ask("policy", "assign", "acme/story", "--mailbox", ANN)
    under = fleet.ask("mailbox", "show", ANN)
    moved = fleet.ask("mailbox", "move", ANN)
    fleet.ask("policy", "refresh", "acme/story", "--new-policy-key")
    rolled = fleet.ask("mailbox", "show", ANN)
    fleet.ask("policy", "assign", "service", "--mailbox", ANN)
    reverted = fleet.ask("mailbox", "show", ANN)

    assert {"imported": 30, "skipped": 0, "bytes": sum(map(len, mail))} == imported
    assert {"assigned": 1, "rejected": []} == assigned
    assert (True, 30, 1) == (under["is_encrypted"], under["items_encrypted"], under["policy_version"])
    assert {"items": 30} == moved
    assert (True, 30, 2) == (rolled["is_encrypted"], rolled["items_encrypted"], rolled["policy_version"])
    assert (False, None) == (reverted["is_encrypted"], reverted["data_encryption_policy_id"])
    fleet.assert_sound({ANN: mail})
    assert 5 == fleet.generations()[ANN]
    assert dict.fromkeys(WORKERS, 2) == {worker: len(fleet.of(worker)) for worker in WORKERS}


def test_site(fleet: Fleet, tmp_path: Path) -> None:
    """Imported, brought under the TIK of its geo, rolled, moved and reverted, a site still returns every byte."""
    expected = make_site(fleet, "plans", "EUR", tmp_path / "in")
    assigned = fleet.ask("policy", "assign", "acme/plans", "--geo", "EUR")
    status = fleet.ask("site", "status", "--tenant", "acme", "--geo", "EUR")
    fleet.ask("policy", "refresh", "acme/plans", "--new-policy-key")
    moved = fleet.ask("site", "move", "plans")
    under = fleet.ask("site", "show", "plans")
    fleet.ask("policy", "assign", "service", "--all-geos", "--tenant", "acme")

    assert {"assigned": 1, "rejected": []} == assigned
    assert ("registered", 100.0, 1) == (status["state"], status["percent"], status["sites_done"])
    assert 3 == moved["files"]
    assert (True, 3, 2) == (under["is_encrypted"], under["files_encrypted"], under["policy_version"])
    assert expected == brought_out(fleet, "plans", tmp_path / "out")
    fleet.assert_sound({})


def test_everybody_finds_it(fleet: Fleet, boxes: dict[str, Counter[bytes]]) -> None:
    """Both replicas of every worker count as running, and what is asked without waiting is done all the same.

    Of the sealer, to which nothing comes through the broker, the one with the lease is seen.
    """
    replicas = {worker: 1 if worker == AUDIT_SEALER else 2 for worker in WORKERS}
    checked = {worker: fleet.ask("worker", "check", worker) for worker in WORKERS}
    for address in boxes:
        fleet.ask("mailbox", "move", address, "--no-wait")

    assert {worker: {"worker": worker, "running": True, "replicas": replicas[worker]} for worker in WORKERS} == checked
    fleet.assert_sound(boxes)
    assert {2} == {fleet.generations()[address] for address in boxes}


def test_law_15_sealed(fleet: Fleet, boxes: dict[str, Counter[bytes]], tmp_path: Path) -> None:
    """Law 15: the sealer chains what everybody wrote, and the whole log fits it and a checkpoint that was kept."""
    kept = tmp_path / "kept.json"
    kept.write_text(json.dumps(fleet.ask("audit", "checkpoint")))
    for address in boxes:
        fleet.ask("mailbox", "move", address)
    fleet.until(lambda: fleet.ask("audit", "verify")["unsealed"] == 0)
    verified = fleet.ask("audit", "verify", "--checkpoint", str(kept))
    sealed = fleet.ask("audit", "checkpoint")

    assert (True, None) == (verified["intact"], verified["first_broken"])
    assert json.loads(kept.read_text())["entries"] < sealed["entries"]
    assert {"operator", "tik_cache_refresher"} <= set(sealed["positions"])
