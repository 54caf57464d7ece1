"""Make the logins of a fleet: a secret URL for every login, and the definitions that RabbitMQ loads at its start."""

import json
import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlsplit

from cli.failures import UsageFault
from cli.setting_rules import broker_fault
from events.amqp.access import ADMINISTRATOR, definitions
from schemas.names import OPERATOR
from twinlock.errors import TwinlockError

DEFINITIONS = "definitions.json"
BROKER = "broker"  # the secret file of the setting of this name
PASSWORD_BYTES = 24
HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[1-9][0-9]{0,4})?")


@dataclass(frozen=True, slots=True)
class Place:
    """Name a broker: `amqp` or `amqps`, HOST or HOST:PORT, and the virtual host."""

    scheme: str
    host: str
    vhost: str

    def url(self, login: str, password: str) -> str:
        """Return the URL of a login; raise `UsageFault` where host and port can't be read."""
        url = f"{self.scheme}://{quote(login)}:{password}@{self.host}/{quote(self.vhost, safe='')}"
        if HOST.fullmatch(self.host) is None or broker_fault(url):
            raise UsageFault(f"{self.host!a} is not HOST or HOST:PORT", hint="for example --host mq.example:5672")
        return url


def write_logins(folder: Path, workers: Sequence[str], place: Place) -> list[str]:
    """Write a secret file for every login that has none, and definitions that fit all; return the new logins."""
    logins = (ADMINISTRATOR, OPERATOR, *workers)
    urls = {login: place.url(login, secrets.token_urlsafe(PASSWORD_BYTES)) for login in logins}
    open_to_all(folder)
    made = [login for login in logins if not (folder / login / BROKER).exists()]
    for login in made:
        (folder / login).mkdir(mode=0o700, exist_ok=True)
        write_file(folder / login / BROKER, urls[login], 0o600)
    passwords = {login: _password(folder / login / BROKER, urls[login]) for login in logins}
    # Compared, not just written with new logins: a run may have ended in between, and a new version may grant more.
    there = _read(folder / DEFINITIONS)
    wanted = definitions(passwords, workers, place.vhost, there)
    if wanted != there:
        # The broker's own user reads it: there are only hashes in it.
        write_file(folder / DEFINITIONS, json.dumps(wanted, indent=2), 0o644)
    return made


def open_to_all(folder: Path) -> None:
    """Make a folder that the broker's user can enter; how open one is that was there is its owner's to say."""
    for each in reversed((folder, *folder.parents)):
        if not each.exists():
            each.mkdir()
            each.chmod(0o755)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise TwinlockError(f"{path} is not a JSON object", hint="remove the file, then run the command again")
    return found


def _password(path: Path, wanted: str) -> str:
    found, new = (urlsplit(url) for url in (path.read_text(encoding="utf-8").strip(), wanted))
    if not found.password:
        raise TwinlockError(f"{path} holds no password", hint="remove the file, then run the command again")
    if _place(found) != _place(new):
        raise TwinlockError(
            f"{path} is for another broker than {new.scheme}://{new.netloc.rpartition('@')[2]}{new.path}",
            hint="name the same one, or remove the folder and make every login anew",
        )
    return unquote(found.password)


def _place(url: SplitResult) -> tuple[str, ...]:
    return url.scheme, url.username or "", url.netloc.rpartition("@")[2], url.path


def write_file(path: Path, text: str, mode: int) -> None:
    """Write a file in one go: whoever reads it finds the old one or the new one."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, mode)
        file.write(text)
    draft.rename(path)
