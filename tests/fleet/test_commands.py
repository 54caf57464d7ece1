"""What commands say and how they end: answered, refused, out of time, and with nobody there to answer."""

import json
from collections import Counter
from pathlib import Path

from schemas.envelope import enclose, serialise
from schemas.names import DEP_ASSIGNER, MAILBOX_REENCRYPTOR
from schemas.requests import MoveRequested
from tests.fleet.installation import Fleet, Ran
from twinlock.clock import SystemClock
from twinlock.store.unit import new_id

LATER = "nothing is lost: it leaves with the next command that asks for something"


def lines(ran: Ran) -> list[str]:
    return ran.err.splitlines()


def test_refused(fleet: Fleet, boxes: dict[str, Counter[bytes]]) -> None:
    """A rejected answer is exit code 1 with its reason; where a part was done, the document says which."""
    (known, _) = boxes
    nothing = fleet.run("policy", "assign", "acme/nope", "--mailbox", known)
    part = fleet.run("policy", "assign", "acme/main", "--mailbox", known, "--mailbox", "no@acme.example", "--json")
    keys = [word for vault in ("left", "right") for word in ("--key", f"local://{vault}/nope")]
    named = ("--tenant", "acme", "--name", "nope", "--workload", "mailbox")
    created = fleet.run("policy", "create", *named, *keys, "--json")

    assert (1, "", "twinlock: there is no policy acme/nope") == (nothing.code, nothing.out, lines(nothing)[0])
    assert (1, 1) == (part.code, part.document["assigned"])
    assert [{"container": "no@acme.example", "reason": "there is no such mailbox"}] == part.document["rejected"]
    assert (1, "refused") == (created.code, created.document["state"])
    assert lines(created)[0].startswith("twinlock: policy acme/nope was not made: ")
    fleet.assert_sound(boxes)


def test_out_of_time(fleet: Fleet, boxes: dict[str, Counter[bytes]]) -> None:
    """A command whose time is up exits 3, says what is open and which worker nobody runs; later it is done."""
    (address, _) = boxes
    fleet.leave(MAILBOX_REENCRYPTOR)
    fleet.until(lambda: fleet.run("worker", "check", MAILBOX_REENCRYPTOR).code == 1)
    check = fleet.run("worker", "check", MAILBOX_REENCRYPTOR, "--json")
    late = fleet.run("mailbox", "move", address, "--timeout", "1")
    start = "start it: twinlock worker run mailbox_reencryptor"

    assert {"worker": MAILBOX_REENCRYPTOR, "running": False, "replicas": 0} == check.document
    assert ["twinlock: mailbox_reencryptor is not running", f"hint: {start}"] == lines(check)
    assert (3, "") == (late.code, late.out)
    assert "twinlock: not done after 1 s: 1 request open; mailbox_reencryptor is not running" == lines(late)[0]
    assert f"hint: {start}; nothing is lost: it goes on by itself then" == lines(late)[1]

    fleet.staff()
    fleet.assert_sound(boxes)

    assert 2 == fleet.generations()[address]


def test_published_without_waiting(fleet: Fleet, boxes: dict[str, Counter[bytes]], tmp_path: Path) -> None:
    """Requests that nobody waits for are on their way when the command returns with their ids."""
    (one, other) = boxes
    written = enclose(
        MoveRequested(mailbox=other),
        event_id=new_id(),
        source="urn:portal",
        time=SystemClock().now(),
        correlation=new_id(),
        causation=None,
    )
    (tmp_path / "request.json").write_bytes(serialise(written))
    asked = fleet.ask("mailbox", "move", one, "--no-wait")
    published = fleet.ask("publish", str(tmp_path / "request.json"), "--no-wait")
    known = {row["id"] for row in fleet.rows("SELECT id FROM requests")}

    assert {"id": written.id} == published
    assert {asked["id"], written.id} <= known
    fleet.assert_sound(boxes)
    assert {2} == {fleet.generations()[address] for address in boxes}


def test_broker_down(fleet: Fleet, boxes: dict[str, Counter[bytes]], tmp_path: Path) -> None:
    """Without the broker every command names it and keeps what was asked; the next command that asks sends it all."""
    (one, other) = boxes
    fleet.node.kill()
    nobody = f"nothing answers for RabbitMQ at 127.0.0.1:{fleet.node.port}"
    late = fleet.run("policy", "assign", "acme/main", "--mailbox", one, "--timeout", "1")
    unsent = fleet.run("policy", "assign", "acme/main", "--mailbox", other, "--no-wait")
    check = fleet.run("worker", "check", DEP_ASSIGNER, "--timeout", "5")
    read = fleet.run("mailbox", "export", one, str(tmp_path / "out"), "--timeout", "1")
    status = fleet.ask("status")
    early = fleet.start(DEP_ASSIGNER)
    unready = (503, {"ready": False, "checks": {"dep_assigner: broker": nobody}})
    fleet.until(lambda: unready == early.asked("/readyz"))
    kept = fleet.value("SELECT count(*) FROM outbox WHERE publisher = 'operator' AND lease_owner IS NULL")

    assert [3, 1, 1, 3] == [ran.code for ran in (late, unsent, check, read)]
    assert f"twinlock: not done after 1 s: 1 event open; {nobody}" == lines(late)[0]
    assert f"twinlock: not published yet: {nobody}" == lines(unsent)[0]
    assert all(lines(ran)[1].endswith(LATER) for ran in (late, unsent))
    assert f"twinlock: {nobody}" == lines(check)[0]
    assert nobody in lines(read)[0]
    assert f"not seen: {nobody}" == status["workers"]
    assert 2 == kept <= status["queues"]["outbox"]  # the sealer's checkpoints wait there, too

    fleet.node.start()
    fleet.all_ready()
    fleet.ask("mailbox", "move", one)

    fleet.assert_sound(boxes)
    assert {one: 3, other: 2} == {address: fleet.generations()[address] for address in boxes}
    assert 0 == fleet.stop(early)


def test_broker_stalled(fleet: Fleet, boxes: dict[str, Counter[bytes]]) -> None:
    """A broker that takes connections and answers nothing holds no command beyond its time, and no event at all."""
    (one, other) = boxes
    fleet.node.pause()
    try:
        late = fleet.run("mailbox", "move", one, "--timeout", "1")
        check = fleet.run("worker", "check", DEP_ASSIGNER, "--timeout", "1")
        held = fleet.value("SELECT count(*) FROM outbox WHERE publisher = 'operator' AND lease_owner IS NOT NULL")
    finally:
        fleet.node.resume()
    silent = f"RabbitMQ at 127.0.0.1:{fleet.node.port} does not answer in time"

    assert [3, 3] == [late.code, check.code]
    assert f"twinlock: not done after 1 s: 1 event open; {silent}" == lines(late)[0]
    assert f"twinlock: {silent}" == lines(check)[0]
    assert 0 == held

    fleet.all_ready()
    fleet.ask("mailbox", "move", other)

    fleet.assert_sound(boxes)
    assert {2} == {fleet.generations()[address] for address in boxes}


def test_no_secret_is_told(fleet: Fleet) -> None:
    """What a command shows of its broker has no password in it."""
    url = (fleet.secrets("operator") / "broker").read_text()
    shown = json.dumps(fleet.ask("status"))

    assert url.split("@")[1].split("/")[0] in shown
    assert url.split("@")[0].rpartition(":")[2] not in shown


def test_owner_alone(fleet: Fleet) -> None:
    """What no role may do is refused before anything is begun, with the way to do it; the owner just does it."""
    enroll = ("worker", "enroll", "operator", "--login", "operator", "--into", str(fleet.secrets("operator")))
    for command, said in (
        (("tenant", "remove", "acme"), "a tenant is removed by the owner of the database"),
        (enroll, "the database's user may not do that"),
    ):
        ran = fleet.run(*command)

        assert (1, f"twinlock: {said}") == (ran.code, ran.err.splitlines()[0])
        assert "TWINLOCK_DATABASE to the owner's URL" in ran.err
    assert not fleet.ask(*enroll, **fleet.owner)["changed"]
    assert ["acme"] == [row["name"] for row in fleet.rows("SELECT name FROM tenants WHERE name = 'acme'")]


def test_operators_role(fleet: Fleet, boxes: dict[str, Counter[bytes]], tmp_path: Path) -> None:
    """What no other test here asks for works with the operator's role as well: to take away, to register, to look."""
    (one, other) = boxes
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes").write_bytes(b"n" * 70_000)
    (item, *_) = fleet.ask("mailbox", "items", one)
    for command in (
        ("mailbox", "delete", one, item["id"]),
        ("mailbox", "remove", one),
        ("site", "add", "drawer", "--tenant", "acme", "--geo", "ROLE"),
        ("site", "import", "drawer", str(tmp_path / "folder")),
        ("site", "import", "drawer", str(tmp_path / "folder")),
        ("site", "delete", "drawer", "notes"),
        ("site", "remove", "drawer"),
        ("publisher", "add", "portal", "--tenant", "acme"),
        ("publisher", "add", "portal", "--all-tenants"),
        ("publisher", "remove", "portal"),
        ("audit", "verify"),
        ("audit", "export", str(tmp_path / "log")),
        ("cost", "--tenant", "acme"),
        ("policy", "show", "acme/main"),
        ("dlq", "retry"),
        ("status",),
    ):
        fleet.ask(*command)

    fleet.assert_sound({other: boxes[other]})
