"""The story of keys that fail: one vault, both vaults, both keys, and the end of everything under them.

It is told in a home of its own, whose settings make seconds of what takes minutes and days elsewhere.
"""

import time
from collections.abc import Callable, Collection
from typing import Any

from cli.demo import proof
from cli.demo.cast import Cast
from cli.demo.mail import CALENDAR, Mail
from cli.demo.stage import Stage
from twinlock.keys.signing import SigningKey, public_to_pem

_SETTINGS = """\
[custody]
keep_seconds = 1.0      # 60 s by default: how long a caller keeps a container's key, also after a revocation
epoch_seconds = 2.0     # 10 s by default: how long a custodian serves on what it last knew of revocations
confirm_interval = 0.5

[custody.evidence]
over_seconds = 2.0      # 30 s by default: how long both vaults are silent before the availability key serves

[approvals]
cooling_off_seconds = 3.0      # 72 h by default: how long a purge can be cancelled; never less than the first two
"""
_APPROVERS = ("ann", "bob")
_CAST = Cast("contoso")
_LOST, _NEW = _CAST.keys, ("local://vault-3/mail", "local://vault-4/mail")
_FIRST, _SECOND = "vault-1", "vault-2"
_TRIES = 25  # a read asks one of the two vaults, by chance, and the other where that one fails
_DUE_SECONDS = 60.0


def lose_one_vault(stage: Stage, mail: Mail) -> str:
    """Have one vault die: nobody notices, and the customer is told."""
    with stage.sandbox(_SETTINGS):
        stage.say("In a home of its own, a sandbox, whose settings turn days into seconds:")
        for line in filter(None, _SETTINGS.splitlines()):
            stage.say(f"    {line}")
        _set_up(stage)
        stage.twinlock(f"vault outage {_FIRST} on")
        _read_until(stage, mail, lambda open_: "policy-degraded" in open_)
        stage.prove("the customer is told that one of the two keys fails", _missing(stage, "policy-degraded"))
    return "reads go on, and an alert says why that is luck"


def lose_both_vaults(stage: Stage, mail: Mail) -> str:
    """Have both vaults die: once that is proven, the availability key serves, which is told."""
    with stage.sandbox():
        stage.say("The other vault dies, too. When both were silent for long enough, the availability key serves.")
        stage.twinlock(f"vault outage {_SECOND} on")
        _read(stage, mail)
        told = _missing(stage, "availability-key-used", "policy-unhealthy")
        stage.prove("the customer is told that the availability key was used", told)
        for vault in (_FIRST, _SECOND):
            stage.twinlock(f"vault outage {vault} off")
        _read_until(stage, mail, lambda open_: not open_)
        left = _open(stage)
        stage.prove("both answer again, and every alert is over", f"open: {', '.join(left)}" if left else "")
    return "the availability key serves, and every use is told"


def revoke_both_keys(stage: Stage, mail: Mail) -> str:
    """Have the customer disable both keys, and enable them again."""
    with stage.sandbox():
        stage.say("The customer disables both keys. That is no outage: the availability key serves nobody.")
        for uri in _LOST:
            stage.twinlock(f"key disable {uri}")
        _refused(stage)
        stage.prove("the customer is told", _missing(stage, "key-revoked", "policy-unhealthy"))
        for uri in _LOST:
            stage.twinlock(f"key enable {uri}")
        _read(stage, mail)
    return "refused, told, and healed by itself"


def recover(stage: Stage, mail: Mail) -> str:
    """Lose both keys for good, and bring the policy onto new ones with two signatures."""
    with stage.sandbox():
        stage.say("Both keys are deleted. With two signatures the availability key brings the policy onto new ones.")
        for uri in _LOST:
            stage.twinlock(f"key delete {uri}")
        _refused(stage)
        for uri in _NEW:
            stage.twinlock(f"key create {uri}")
        asked = f"recovery request {_CAST.policy} --key {_NEW[0]} --key {_NEW[1]} --reason 'both were deleted'"
        _sign(stage, stage.twinlock(asked)["id"])
        _read(stage, mail)
        keys = [key["uri"] for key in stage.twinlock(f"policy show {_CAST.policy}")["keys"]]
        stage.prove("the policy is under the new keys", "" if set(keys) == set(_NEW) else ", ".join(keys))
        for uri in (*_LOST, *_NEW):
            stage.twinlock(f"key {'restore' if uri in _LOST else 'disable'} {uri}")
        _refused(stage)
        stage.prove("the old keys, brought back, open nothing")
    return "readable again, under new keys alone"


def purge(stage: Stage, mail: Mail) -> str:
    """End everything under the policy, and check the certificate."""
    with stage.sandbox():
        stage.say("The customer leaves for good: keys denied, two signatures, a time to think, and no way back.")
        asked = stage.twinlock(f"purge request {_CAST.policy} --reason 'we leave' --contact privacy@contoso.example")
        _sign(stage, asked["id"])
        state = _until_done(stage, asked["id"])
        stage.prove("it is carried out", "" if state == "done" else f"it is {state}")
        left = stage.twinlock(f"mailbox list --tenant {_CAST.tenant}")
        stage.prove("no mailbox is left", f"{len(left)} are" if left else "")
        with stage.reading(f"purge certificate {asked['id']}") as stream:
            (stage.folder / "certificate.json").write_bytes(stream.read())
        found = stage.twinlock(f"purge certificate {asked['id']} --verify certificate.json")
        stage.prove("its certificate is valid, checked by itself", "" if found["valid"] else "it is not")
        audit = stage.twinlock("audit verify")
        stage.prove("the audit log of it all is whole", "" if audit["intact"] else "it is not")
    return f"{found['items']} items gone for good, certified"


SCENES: tuple[tuple[str, Callable[[Stage, Mail], str]], ...] = (
    ("one vault down", lose_one_vault),
    ("both vaults down", lose_both_vaults),
    ("both keys disabled", revoke_both_keys),
    ("both keys deleted", recover),
    ("purge", purge),
)


def _set_up(stage: Stage) -> None:
    stage.twinlock("init")
    stage.twinlock(f"tenant add {_CAST.tenant}")
    for name in _APPROVERS:
        key = SigningKey.generate()
        (stage.folder / f"{name}.key").write_bytes(key.to_pem())
        (stage.folder / f"{name}.pub").write_bytes(public_to_pem(key.public))
        stage.twinlock(f"approver add {_CAST.tenant} {name} --public-key {name}.pub")
    for uri in _LOST:
        stage.twinlock(f"key create {uri}")
    made = f"policy create --tenant {_CAST.tenant} --name mail --workload mailbox"
    stage.twinlock(f"{made} --key {_LOST[0]} --key {_LOST[1]}")
    stage.twinlock(f"mailbox add {_CAST.ben} --tenant {_CAST.tenant}")
    stage.twinlock(f"mailbox import {_CAST.ben} {CALENDAR}")
    stage.twinlock(f"policy assign {_CAST.policy} --mailbox {_CAST.ben}")


def _sign(stage: Stage, request: str) -> None:
    for name in _APPROVERS:
        stage.twinlock(f"approval approve {request} --by {name} --private-key {name}.key")


def _until_done(stage: Stage, request: str) -> str:
    until, state = time.monotonic() + _DUE_SECONDS, ""
    while state != "done" and time.monotonic() < until:
        time.sleep(1.0)
        state = stage.twinlock(f"purge show {request}")["state"]
    return state


def _read(stage: Stage, mail: Mail) -> None:
    stage.prove("a person reads everything", _differing(stage, mail))


def _read_until(stage: Stage, mail: Mail, happened: Callable[[Collection[str]], bool]) -> None:
    """Read until the alerts that are open are as they should be; every read has to succeed."""
    faults: set[str] = set()
    for _ in range(_TRIES):
        faults.add(_differing(stage, mail))
        if happened(_open(stage)):
            break
    stage.prove("a person reads everything, each time", ", ".join(faults - {""}))


def _differing(stage: Stage, mail: Mail) -> str:
    folder = next(stage.folders)
    stage.twinlock(f"mailbox export {_CAST.ben} {folder}")
    return proof.differs(proof.digests(mail.items(CALENDAR)), proof.digests(proof.files(stage.folder / folder)))


def _refused(stage: Stage) -> None:
    said = stage.refused(f"mailbox export {_CAST.ben} {next(stage.folders)}")
    stage.prove("a person's read is refused", "" if "denied" in said else f"it was not: {said}")


def _open(stage: Stage) -> list[str]:
    alerts: list[dict[str, Any]] = stage.twinlock("alerts list --open")
    return sorted({alert["kind"] for alert in alerts if alert["policy"]})


def _missing(stage: Stage, *kinds: str) -> str:
    """Return what is not among the alerts that were ever raised."""
    told = {alert["kind"] for alert in stage.twinlock("alerts list")}
    return ", ".join(kind for kind in kinds if kind not in told)
