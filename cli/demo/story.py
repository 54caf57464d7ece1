"""The story, step by step. A step that ends returns what it showed, for the table."""

import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import Any

from cli.demo import library, loss, proof, sites
from cli.demo import mail as sources
from cli.demo.library import LARGE_BYTES
from cli.demo.mail import COPIES, Mail
from cli.demo.servers import Customer
from cli.demo.stage import Stage, Twinlock
from cli.demo.vaults import Stopped
from cli.entry import INTERRUPTED
from cli.failures import FAILED, UsageFault, explain
from cli.home import LOG
from cli.output import Failure, complain
from cli.settings import PREFIX, Settings, load_settings
from twinlock.errors import TwinlockError

_PAUSE = 2.0  # seconds between two tries


def run(
    keep: Path | None,
    twinlock: Twinlock,
    copies: int = COPIES,
    large_bytes: int = LARGE_BYTES,
    customer: Path | None = None,
) -> int:
    """Tell the story in a temporary home, or in the folder to keep; return the exit code.

    On a fleet, `customer` is the file with the customer's own logins to the vaults of the story.
    """
    try:
        with _folder(keep) as folder:
            fleet = _fleet()
            stage = Stage(folder, twinlock, fleet, _customer(customer, fleet))
            with stage.set():
                library.make(stage.folder, large_bytes)
                return _tell(stage, copies, keep is not None)
    except KeyboardInterrupt:
        complain(Failure("interrupted"))
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001  # the last line of defence: no traceback reaches a person
        failure = explain(error, f"{LOG} (it is there after a run with --keep DIR)")
        complain(failure)
        return failure.code


def _fleet() -> Settings | None:
    """Return the settings of a fleet, where one is set up here; elsewhere the story has a home of its own."""
    if not any(f"{PREFIX}{name}" in os.environ for name in ("BROKER", "SECRETS")):
        return None
    settings = load_settings()
    return settings if settings.is_fleet else None


def _customer(file: Path | None, fleet: Settings | None) -> Customer | None:
    if file is not None and fleet is None:
        raise UsageFault(
            "only a fleet has the provider's side of a customer's own vaults",
            hint="without --customer the story is told with embedded vaults",
        )
    return Customer.read(file) if file is not None else None


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="twinlock-demo-") as folder:
            yield Path(folder)
        return
    keep.mkdir(parents=True, exist_ok=True)
    if any(keep.iterdir()):
        raise TwinlockError(f"{keep} is not empty", hint="give a path where nothing is yet, or an empty folder")
    yield keep.absolute()


def _tell(stage: Stage, copies: int, kept: bool) -> int:
    stage.tell("Two keys of a customer take over three mailboxes, and give them back; then a library of documents.")
    stage.tell("What follows a $ is what a person would type. The folder of it all:")
    stage.tell(f"{stage.folder}{'' if kept else ' (removed at the end)'}")
    mail = sources.make(stage.folder, copies)
    stopped = False
    try:
        for title, scene in SCENES:
            with stage.step(title) as step:
                step.shown = scene(stage, mail)
    except Stopped:
        stopped = True
    stage.table()
    return _end(stage, stopped, kept)


def _end(stage: Stage, stopped: bool, kept: bool) -> int:
    failed = [f"{step.title}: {fault}" for step in stage.steps for fault in step.faults]
    if failed:
        hint = "" if kept else "run it with --keep DIR, and look at what is there"
        complain(Failure(f"the demo {'stopped' if stopped else 'failed'}: {'; '.join(failed)}", hint))
        return FAILED
    seconds = sum(step.seconds for step in stage.steps)
    stage.tell(f"Every proof held, in {seconds:.0f} seconds.")
    if kept:
        folder, home = quote(str(stage.folder)), quote(str(stage.home))
        stage.tell(f"Look around: cd {folder} && export TWINLOCK_HOME={home} && twinlock status")
    return 0


def _set_up(stage: Stage, mail: Mail) -> str:
    cast = stage.cast
    stage.say("A customer makes one key in each of two vaults; a policy joins them.")
    if not stage.is_fleet:
        stage.twinlock("init")
    stage.twinlock(f"tenant add {cast.tenant}")
    for uri in cast.keys:
        stage.vaults.create(uri)
    made = stage.twinlock(
        f"policy create --tenant {cast.tenant} --name mail --workload mailbox --key {cast.keys[0]} --key {cast.keys[1]}"
    )
    wrong = [key["uri"] for key in made["keys"] if key["status"] != "ok"]
    stage.prove("both keys were tried live before anything was stored", ", ".join(wrong))
    return "a tenant, a key in each of two vaults, a policy"


def _protect_first(stage: Stage, mail: Mail) -> str:
    cast = stage.cast
    stage.say("A mailbox is put under the policy while it is empty; then its mail arrives.")
    stage.twinlock(f"mailbox add {cast.desk} --tenant {cast.tenant} --kind shared")
    stage.twinlock(f"policy assign {cast.policy} --mailbox {cast.desk}")
    count = _import(stage, cast.desk)
    box = stage.twinlock(f"mailbox show {cast.desk}")
    waiting = len(stage.twinlock("status")["work"])
    fault = proof.unprotected([box], _policy(stage)["id"], count)
    stage.prove(f"{count} items, one of them with 5 MB, were encrypted as they arrived", fault)
    stage.prove("nothing is left to re-encrypt", f"{waiting} jobs wait" if waiting else "")
    return f"{count} items encrypted on arrival"


def _take_over(stage: Stage, mail: Mail) -> str:
    cast = stage.cast
    stage.say("Two mailboxes hold mail already, under the provider's own keys. The policy takes them over:")
    stage.say("every item is re-encrypted in the background, and the command waits for it.")
    for address in (cast.ann, cast.ben):
        stage.twinlock(f"mailbox add {address} --tenant {cast.tenant}")
    count = sum(_import(stage, address) for address in (cast.ann, cast.ben))
    stage.twinlock(f"policy assign {cast.policy} --mailbox {cast.ann} --mailbox {cast.ben}")
    boxes = [stage.twinlock(f"mailbox show {address}") for address in (cast.ann, cast.ben)]
    stage.prove(f"all {count} items were re-encrypted", proof.unprotected(boxes, _policy(stage)["id"], count))
    return f"{count} items re-encrypted"


def _check_encrypted(stage: Stage, mail: Mail) -> str:
    cast = stage.cast
    count = proof.digests(mail.items(*cast.sources)).total()
    boxes = stage.twinlock(f"mailbox list --tenant {cast.tenant}")
    policy = _policy(stage)
    fault = proof.unprotected(boxes, policy["id"], count)
    stage.prove(f"every one of {count} items is under the customer's keys", fault)
    under = policy["objects_by_key_version"]
    stage.prove("the policy counts the same", "" if under == {"1": count} else f"it counts {under}")
    return f"{count} of {count} items under the customer's keys"


def _compare(stage: Stage, mail: Mail) -> str:
    cast = stage.cast
    count = _export(stage, mail, "out", *cast.mailboxes)
    return f"{count} items out, the same as went in"


def _search(stage: Stage, mail: Mail) -> str:
    cast = stage.cast
    where = "home, objects included" if stage.is_fleet else "home"
    stage.say(f"Pieces of the mail, and a random word in one message, are looked for in every file of the {where}.")
    wanted = proof.pieces(mail.items(*cast.sources)) | {mail.canary.encode()}
    stored = list(proof.paths(*stage.stored))
    stage.prove(
        f"none of {len(wanted)} pieces is in the {len(stored)} files of the home", proof.readable(wanted, stored)
    )
    exported = proof.files(stage.folder / "out")
    stage.prove("all of them are in what was exported, so they can be found", proof.overlooked(wanted, exported))
    return "nothing readable in database, objects and logs"


def _rotate(stage: Stage, mail: Mail) -> str:
    cast = stage.cast
    stage.say("The customer adds a new version to its keys; a refresh brings the policy onto it.")
    before = _versions(stage.twinlock(f"policy show {cast.policy}"))
    for uri in cast.keys:
        stage.vaults.rotate(uri)
    after = _versions(stage.twinlock(f"policy refresh {cast.policy}"))
    stage.say(f"versions in use before: {' and '.join(before)}; after: {' and '.join(after)}")
    moved = before == ["1", "1"] and after == ["2", "2"]
    stage.prove("the policy uses the new versions alone: the old ones may go", "" if moved else "an old one is in use")
    _export(stage, mail, "rotated", cast.desk)
    return f"from versions {' and '.join(before)} to {' and '.join(after)}"


def _revoke(stage: Stage, mail: Mail) -> str:
    cast = stage.cast
    stage.say("The customer disables both keys: nobody reads any more, until a key is back.")
    for uri in cast.keys:
        stage.vaults.disable(uri)
    refused = _until_refused(stage)
    stage.prove("a person's read is refused", "" if refused else "it was not refused")
    left = refused and any(proof.paths(stage.folder / refused))
    stage.prove("it left nothing behind", "a file was written" if left else "")
    for uri in cast.keys:
        stage.vaults.enable(uri)
    _until_served(stage)
    _export(stage, mail, "healed", cast.ben)
    return "refused while the keys are disabled, then served again"


def _until_refused(stage: Stage) -> str:
    """Read until it is refused, and return the folder that was to be written."""
    for number, _ in enumerate(_tries(stage, "the fleet lets go of a key that it has in use")):
        folder = f"refused/{number}"
        if "denied" in stage.refused(f"mailbox export {stage.cast.ben} {folder}"):
            return folder
    return ""


def _until_served(stage: Stage) -> None:
    for number, _ in enumerate(_tries(stage, "the fleet asks a refused key again") if stage.is_fleet else ()):
        if not stage.refused(f"mailbox export {stage.cast.ben} again/{number}"):
            return


def _tries(stage: Stage, why: str) -> Iterator[None]:
    """Try once; in a fleet, whose custodian remembers, as long as its published bound says."""
    yield
    if not stage.is_fleet:
        return
    bound = stage.twinlock("status")["denied_key_in_use_seconds"]
    stage.say(f"within {bound:.0f} seconds {why}")
    until = time.monotonic() + bound
    while time.monotonic() < until:
        time.sleep(_PAUSE)
        yield


def _revert(stage: Stage, mail: Mail) -> str:
    cast = stage.cast
    stage.say("The customer leaves: everything goes back under the provider's own keys.")
    stage.twinlock(f"policy assign service --all-mailboxes --tenant {cast.tenant}")
    boxes = stage.twinlock(f"mailbox list --tenant {cast.tenant}")
    left = sum(_policy(stage)["objects_by_key_version"].values())
    fault = proof.unreverted(boxes) or (f"{left} items are left under it" if left else "")
    stage.prove("no item is under the customer's policy any more", fault)
    count = _export(stage, mail, "reverted", *cast.mailboxes)
    return f"{count} items under the provider's keys, unchanged"


Scene = Callable[[Stage, Mail], str]

SCENES: tuple[tuple[str, Scene], ...] = (
    ("set up", _set_up),
    ("protect before mail arrives", _protect_first),
    ("take over existing mail", _take_over),
    ("every item encrypted", _check_encrypted),
    ("export equals import", _compare),
    ("no plaintext on disk", _search),
    ("rotate the keys", _rotate),
    ("revoke, and heal", _revoke),
    ("revert", _revert),
    ("a site under two keys", lambda stage, mail: sites.bring_in(stage)),
    ("a vault slows down and dies", lambda stage, mail: sites.lose_a_vault(stage)),
    ("files equal, and unreadable", lambda stage, mail: sites.compare(stage)),
    ("the kill switch", lambda stage, mail: sites.pull_the_plug(stage)),
    *loss.SCENES,
)


def _import(stage: Stage, address: str) -> int:
    return sum(
        int(stage.twinlock(f"mailbox import {address} {path}")["imported"]) for path in stage.cast.mailboxes[address]
    )


def _export(stage: Stage, mail: Mail, folder: str, *addresses: str) -> int:
    """Export mailboxes and compare every item with what went in."""
    came: Counter[str] = Counter()
    went: Counter[str] = Counter()
    for address in addresses:
        path = f"{folder}/{address.partition('@')[0]}"
        stage.twinlock(f"mailbox export {address} {path}")
        came += proof.digests(proof.files(stage.folder / path))
        went += proof.digests(mail.items(*stage.cast.mailboxes[address]))
    stage.prove(f"all {went.total()} items came out byte for byte", proof.differs(went, came))
    return came.total()


def _policy(stage: Stage) -> dict[str, Any]:
    document: dict[str, Any] = stage.twinlock(f"policy show {stage.cast.policy}")
    return document


def _versions(policy: dict[str, Any]) -> list[str]:
    return [key["version"] for key in policy["keys"]]
