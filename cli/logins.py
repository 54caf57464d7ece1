"""Make the logins of a fleet: a secret URL for every login, and the definitions that RabbitMQ loads at its start."""

import json
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from events.amqp.access import ADMINISTRATOR, definitions
from schemas.names import OPERATOR
from twinlock.errors import TwinlockError

DEFINITIONS = "definitions.json"
BROKER = "broker"  # the secret file of the setting of this name
_PASSWORD_BYTES = 24


def write_logins(folder: Path, workers: Sequence[str], host: str, vhost: str) -> list[str]:
    """Write a secret file for every login that has none, and definitions that fit all; return the new logins."""
    folder.mkdir(parents=True, exist_ok=True)
    logins = (ADMINISTRATOR, OPERATOR, *workers)
    made = [login for login in logins if not (folder / login / BROKER).exists()]
    for login in made:
        place = f"amqp://{quote(login)}:{secrets.token_urlsafe(_PASSWORD_BYTES)}@{host}/{quote(vhost, safe='')}"
        (folder / login).mkdir(mode=0o700, exist_ok=True)
        _write(folder / login / BROKER, place, 0o600)
    passwords = {login: _password(folder / login / BROKER) for login in logins}
    if made or not (folder / DEFINITIONS).exists():
        # The broker's own user reads it: there are only hashes in it.
        _write(folder / DEFINITIONS, json.dumps(definitions(passwords, workers, vhost), indent=2), 0o644)
        folder.chmod(0o755)
    return made


def _password(path: Path) -> str:
    found = urlsplit(path.read_text(encoding="utf-8").strip()).password
    if not found:
        raise TwinlockError(f"{path} holds no password", hint="remove the file, then run the command again")
    return unquote(found)


def _write(path: Path, text: str, mode: int) -> None:
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, mode)
        file.write(text)
    draft.rename(path)
