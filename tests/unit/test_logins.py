"""Logins of a fleet: the secrets that are there stay, and the definitions always fit them."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from cli.failures import UsageFault
from cli.logins import Place, write_logins
from twinlock.errors import TwinlockError
from workers.roster import ROSTER

PLACE = Place("amqp", "mq.example:5672", "/")
LOGINS = {"administrator", "operator", *ROSTER}


def make(folder: Path, place: Place = PLACE) -> list[str]:
    return write_logins(folder, tuple(ROSTER), place)


def load(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "definitions.json").read_text())
    return found


def fits(folder: Path) -> bool:
    """Tell whether every secret opens the login that the definitions make."""
    hashes = {user["name"]: base64.b64decode(user["password_hash"]) for user in load(folder)["users"]}
    urls = {login: urlsplit((folder / login / "broker").read_text()) for login in LOGINS}
    return all(
        hashes[login] == hashes[login][:4] + hashlib.sha256(hashes[login][:4] + str(url.password).encode()).digest()
        for login, url in urls.items()
    )


def test_twice(tmp_path: Path) -> None:
    """The first run makes everything, the second changes no byte."""
    first = make(tmp_path / "etc" / "twinlock")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    second = make(tmp_path / "etc" / "twinlock")

    assert (LOGINS, []) == (set(first), second)
    assert fits(tmp_path / "etc" / "twinlock")
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


@pytest.mark.parametrize("lost", ["hash", "file", "right"])
def test_interrupted(tmp_path: Path, lost: str) -> None:
    """Definitions that lag behind the secrets, as after a kill in between, are mended by the next run."""
    make(tmp_path)
    whole = load(tmp_path)
    if lost == "file":
        (tmp_path / "definitions.json").unlink()
    else:
        section = {"hash": "users", "right": "permissions"}[lost]
        (tmp_path / "definitions.json").write_text(json.dumps({**whole, section: whole[section][:-1]}))

    assert [] == make(tmp_path)
    assert fits(tmp_path)
    assert whole["permissions"] == load(tmp_path)["permissions"]


def test_replaced_secret(tmp_path: Path) -> None:
    """A secret that was removed is made anew, and only its hash changes."""
    make(tmp_path)
    old = load(tmp_path)["users"]
    (tmp_path / "operator" / "broker").unlink()

    assert ["operator"] == make(tmp_path)
    assert fits(tmp_path)
    assert ["operator"] == [new["name"] for new in load(tmp_path)["users"] if new not in old]


def test_additions_stay(tmp_path: Path) -> None:
    """What others added to the definitions is theirs."""
    make(tmp_path)
    portal = {"name": "portal", "password_hash": "", "tags": ""}
    found = load(tmp_path)
    added = {**found, "users": [*found["users"], portal], "policies": [{"name": "mine"}]}
    (tmp_path / "definitions.json").write_text(json.dumps(added))
    (tmp_path / "operator" / "broker").unlink()
    make(tmp_path)

    assert portal in load(tmp_path)["users"]
    assert [{"name": "mine"}] == load(tmp_path)["policies"]


def test_modes(tmp_path: Path) -> None:
    """Folders that it makes can be entered by the broker's user, secrets by nobody; a folder that was there stays."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    make(closed)
    make(tmp_path / "new" / "etc")
    modes = {path: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}

    assert 0o700 == modes[closed]
    assert (0o755, 0o755) == (modes[tmp_path / "new"], modes[tmp_path / "new" / "etc"])
    assert {0o644} == {mode for path, mode in modes.items() if path.name == "definitions.json"}
    assert {0o600} == {mode for path, mode in modes.items() if path.name == "broker"}
    assert {0o700} == {mode for path, mode in modes.items() if path.name in LOGINS}


def test_tls(tmp_path: Path) -> None:
    """A broker behind TLS is reached by `amqps`, in the virtual host that was named."""
    make(tmp_path, Place("amqps", "mq.example", "a/b"))

    assert (tmp_path / "operator" / "broker").read_text().startswith("amqps://operator:")
    assert (tmp_path / "operator" / "broker").read_text().endswith("@mq.example/a%2Fb")
    assert [{"name": "a/b"}] == load(tmp_path)["vhosts"]


@pytest.mark.parametrize("host", ["", "mq example", "ann@mq", "mq:", "mq:0", "mq:99999", "mq/x", "mq?x"])
def test_bad_host(tmp_path: Path, host: str) -> None:
    """What is no host is refused before anything is made."""
    with pytest.raises(UsageFault, match="is not HOST or HOST:PORT"):
        make(tmp_path / "etc", Place("amqp", host, "/"))

    assert not (tmp_path / "etc").exists()


@pytest.mark.parametrize("other", [Place("amqps", "mq.example:5672", "/"), Place("amqp", "mq.example:5672", "shop")])
def test_other_broker(tmp_path: Path, other: Place) -> None:
    """Secrets for another broker are told, not left to fail there."""
    make(tmp_path)
    before = load(tmp_path)
    with pytest.raises(TwinlockError, match="is for another broker than "):
        make(tmp_path, other)

    assert before == load(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_damaged(tmp_path: Path, text: str) -> None:
    """Definitions that can't be read are somebody's to look at, and not overwritten."""
    make(tmp_path)
    (tmp_path / "definitions.json").write_text(text)
    with pytest.raises(TwinlockError, match=r"definitions\.json is not a JSON object"):
        make(tmp_path)

    assert text == (tmp_path / "definitions.json").read_text()
