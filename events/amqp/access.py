"""Who may do what in the broker: one login a worker, one for the command line, one that declares (least privilege).

Nobody but the administrator configures anything, except for reply queues of one's own. A worker writes where its facts
and its own retries go, and reads what is its own; so none can write another's queue.
"""

import base64
import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from events.amqp import names
from schemas.names import ALERT_EMITTER, CUSTODIAN, OPERATOR
from schemas.routing import PREFIX

ADMINISTRATOR = "administrator"
_SALT_BYTES = 4
_REPLIES = r"twinlock\.reply\..*"  # exclusive queues: the broker keeps everybody out but the connection that made one


@dataclass(frozen=True, slots=True)
class Access:
    """Hold one login's permissions, as regular expressions of RabbitMQ."""

    login: str
    configure: str
    write: str
    read: str


def of_worker(worker: str) -> Access:
    """Return what a worker may do."""
    own = [names.retry_exchange(worker), names.letter_exchange(worker)]
    more = {CUSTODIAN: [names.REPLIES], ALERT_EMITTER: [names.ALERTS_EXCHANGE]}.get(worker, [])
    writes = [names.EVENTS_EXCHANGE, names.ANSWERS_EXCHANGE, names.REJECTED, names.RPC, *own, *more]
    return _access(worker, writes, [_all_of(worker), _exactly(names.REPLIES)])


def of_operator() -> Access:
    """Return what commands may do: ask the workers and the custodian, and look whether a worker listens."""
    return _access(OPERATOR, [names.REQUESTS_EXCHANGE, names.RPC], [_exactly(names.REPLIES)])


def of_administrator() -> Access:
    """Return what whoever declares the topology may do: everything that is ours, and nothing else."""
    ours = f"^{_exactly(PREFIX)}.*$"
    return Access(ADMINISTRATOR, ours, ours, ours)


def definitions(
    passwords: Mapping[str, str], workers: Iterable[str], vhost: str = "/", there: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return what RabbitMQ loads at its start (`load_definitions`): the logins, with hashes of their passwords.

    What is `there` already and not ours stays, and so does the hash of a password that is still the same.
    """
    access = [of_administrator(), of_operator(), *map(of_worker, workers)]
    found = dict(there or {})
    salts = {each.get("name"): _salt(each) for each in found.get("users", ())}
    ours: dict[str, list[dict[str, Any]]] = {
        "vhosts": [{"name": vhost}],
        "users": [_user(each.login, passwords[each.login], salts.get(each.login)) for each in access],
        "permissions": [
            {
                "user": each.login,
                "vhost": vhost,
                "configure": each.configure,
                "write": each.write,
                "read": each.read,
            }
            for each in access
        ],
    }
    return {**found, **{section: _joined(found.get(section, ()), own) for section, own in ours.items()}}


def _joined(found: Iterable[Mapping[str, Any]], own: list[dict[str, Any]]) -> list[Mapping[str, Any]]:
    named = [_name(each) for each in own]
    return [*own, *(each for each in found if _name(each) not in named)]


def _name(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(entry.get(part) for part in ("name", "user", "vhost"))


def _access(login: str, writes: Iterable[str], reads: Iterable[str]) -> Access:
    written = "|".join([*map(_exactly, writes), _REPLIES])
    return Access(login, f"^{_REPLIES}$", f"^({written})$", f"^({'|'.join([*reads, _REPLIES])})$")


def _all_of(worker: str) -> str:
    return f"{_exactly(PREFIX + worker)}\\..*"


def _exactly(name: str) -> str:
    return name.replace(".", "\\.")


def _salt(user: Mapping[str, Any]) -> bytes | None:
    try:
        return base64.b64decode(user["password_hash"])[:_SALT_BYTES]
    except (KeyError, TypeError, ValueError):
        return None


def _user(login: str, password: str, salt: bytes | None) -> dict[str, Any]:
    # RabbitMQ's own format: base64(salt || SHA-256(salt || password))
    salt = salt or os.urandom(_SALT_BYTES)
    digest = hashlib.sha256(salt + password.encode()).digest()
    return {
        "name": login,
        "password_hash": base64.b64encode(salt + digest).decode(),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": "",
    }
