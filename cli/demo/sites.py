"""The story of a site: a library under two keys, while one of their vaults slows down and dies."""

import hashlib
from pathlib import Path
from shlex import quote

from cli.demo import library as files
from cli.demo import proof
from cli.demo.library import LARGE, LIBRARY, NOTES
from cli.demo.stage import Stage

SLOW_SECONDS = 2
_FIRST = 1024 * 1024


def bring_in(stage: Stage) -> str:
    """Fill a site, and bring it under the customer's keys."""
    cast = stage.cast
    stage.say("A document library, under the provider's own keys; a policy for its geo then takes it over.")
    stage.twinlock(f"site add {cast.site} --tenant {cast.tenant} --geo {cast.geo}")
    brought = stage.twinlock(f"site import {cast.site} {LIBRARY}")
    again = stage.twinlock(f"site import {cast.site} {LIBRARY}")
    stage.prove("a second import finds nothing new", f"{again['files']} files" if again["files"] else "")
    for uri in cast.document_keys:
        stage.vaults.create(uri)
    first, second = cast.document_keys
    made = f"policy create --tenant {cast.tenant} --name docs --workload site --geo {cast.geo}"
    policy = stage.twinlock(f"{made} --key {first} --key {second}")
    stage.twinlock(f"policy assign {cast.documents} --geo {cast.geo}")
    status = stage.twinlock(f"site status --tenant {cast.tenant} --geo {cast.geo}")
    stage.prove(
        "the geo is registered", "" if (status["state"], status["percent"]) == ("registered", 100) else "not yet"
    )
    site = stage.twinlock(f"site show {cast.site}")
    fault = "" if site["data_encryption_policy_id"] == policy["id"] else "it is under other keys"
    stage.prove("the site is under the customer's keys", fault)
    return f"{brought['files']} files, {brought['bytes'] // 1_000_000} MB"


def lose_a_vault(stage: Stage) -> str:
    """Have one vault turn slow and die while a file is read."""
    vaults = stage.vaults
    if vaults.can_be_slow:
        stage.say("The first vault turns slow: a read waits for it a moment only, and asks the other one.")
        vaults.slow_down(SLOW_SECONDS)
        _read(stage, NOTES)
    stage.say(f"{vaults.end} in the middle of a read of {LARGE}: the read goes on, and so does the next one.")
    with stage.reading(f"site cat {stage.cast.site} {LARGE}") as stream:
        came = hashlib.sha256(stream.read(_FIRST))
        vaults.close()
        while chunk := stream.read(_FIRST):
            came.update(chunk)
    _compare(stage, LARGE, came.hexdigest())
    _read(stage, NOTES)
    vaults.open()
    return "reads go on with one vault slow, then dead" if vaults.can_be_slow else "reads go on with one vault closed"


def compare(stage: Stage) -> str:
    """Compare what comes out with what went in, and look for it on the disk."""
    cast = stage.cast
    stage.twinlock(f"site export {cast.site} site-out")
    went, came = files.contents(stage.folder / LIBRARY), files.contents(stage.folder / "site-out")
    differing = sorted(name for name in {*went, *came} if went.get(name) != came.get(name))
    stage.prove(f"all {len(went)} came out byte for byte, the empty folder too", ", ".join(differing))
    sources = [path.read_bytes() for path in proof.paths(stage.folder / LIBRARY)]
    wanted = proof.pieces(sources)
    fault = proof.readable(wanted, list(proof.paths(*stage.stored)))
    stage.prove(f"none of {len(wanted)} pieces of them is readable in the home", fault)
    return f"{len(went)} files and folders, the same as went in"


def pull_the_plug(stage: Stage) -> str:
    """Revoke the policy: nothing is served, whatever the vaults say, until it is restored."""
    cast = stage.cast
    stage.say("The kill switch: the keys are fine, and nobody reads any more.")
    stage.twinlock(f"policy revoke {cast.documents}")
    refused = stage.refused(f"site export {cast.site} site-refused")
    stage.prove("a person's read is refused", "" if "revoked" in refused else f"it was not: {refused}")
    stage.twinlock(f"policy restore {cast.documents}")
    _read(stage, NOTES)
    return "refused at once, then served again"


def _read(stage: Stage, path: Path) -> None:
    with stage.reading(f"site cat {stage.cast.site} {quote(str(path))}") as stream:
        came = hashlib.sha256(stream.read()).hexdigest()
    _compare(stage, path, came)


def _compare(stage: Stage, path: Path, came: str) -> None:
    went = hashlib.sha256((stage.folder / LIBRARY / path).read_bytes()).hexdigest()
    stage.prove(f"{path} came byte for byte", "" if came == went else "it is not what went in")
