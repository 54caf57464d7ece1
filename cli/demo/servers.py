"""The customer's two vaults as OpenBao servers, where the story acts as the customer, by a login of the customer's own.

What is shown is the line for OpenBao's own `bao`; what is done is the request that it would send.
"""

import asyncio
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from cli.demo.vaults import Stopped
from twinlock.clock import SystemClock
from twinlock.errors import TwinlockError
from twinlock.vaults.administration import BadKeyUri
from twinlock.vaults.openbao.reasons import Reason, VaultFault
from twinlock.vaults.openbao.settings import OpenBaoServer, OpenBaoSettings
from twinlock.vaults.openbao.uris import HTTPS, parse_bao_uri

_ENGINE = "transit"
_QUOTA = f"sys/quotas/rate-limit/{_ENGINE}"
_ONE_AN_HOUR = {"path": _ENGINE, "rate": 1, "interval": "3600s"}
_TRIES = 5  # after which a quota has to count


@dataclass(frozen=True, slots=True)
class Customer:
    """Hold the customer's login to each of its servers, and the folder in which the files of it lie."""

    settings: OpenBaoSettings
    folder: Path

    @classmethod
    def read(cls, file: Path) -> "Customer":
        """Read a TOML file with the two servers, named as in the settings of OpenBao; raise a `TwinlockError`."""
        try:
            found = TypeAdapter(OpenBaoSettings).validate_python(tomllib.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, ValidationError):
            found = OpenBaoSettings()
        if len(found.servers) != 2 or found.faults:
            hint = 'it needs two tables [servers."HOST:PORT"] with role_id, secret_id_file and ca_file'
            raise TwinlockError(f"{file} does not hold a customer's logins to two servers of OpenBao", hint=hint)
        return cls(found, file.parent)


class OpenBaoVaults:
    """Be the customer at two servers of OpenBao, which others use as well: each telling has names of its own there."""

    can_be_slow = False
    end = "The owner of the first vault lets it answer one request an hour,"

    def __init__(self, mark: str, customer: Customer, show: Callable[[str], None]) -> None:
        self.mark = mark
        self._customer = customer
        self._show = show
        self._first, second = customer.settings.servers
        self.places = (f"{HTTPS}://{self._first}/{_ENGINE}/keys", f"{HTTPS}://{second}/{_ENGINE}/keys")

    def create(self, uri: str) -> None:
        """Make a key."""
        self._change(uri, "POST", "", {"type": "aes256-gcm96"})

    def rotate(self, uri: str) -> None:
        """Add a version to a key."""
        self._change(uri, "POST", "/rotate")

    def disable(self, uri: str) -> None:
        """Delete a key softly, which is how it is disabled here."""
        self._change(uri, "DELETE", "/soft-delete")

    def enable(self, uri: str) -> None:
        """Restore it."""
        self._change(uri, "POST", "/soft-delete-restore")

    def slow_down(self, seconds: int) -> None:
        """Refuse: a server has nothing that makes it slow."""
        raise Stopped("a server of OpenBao can't be slowed down")

    def close(self) -> None:
        """Let the first server's engine answer one request an hour, and ask until that one is spent."""
        self._act(self._first, "POST", _QUOTA, _ONE_AN_HOUR)
        for _ in range(_TRIES):
            fault = self._ask(self._first, "GET", f"{_ENGINE}/keys/none", {})
            if fault is not None and fault.reason is Reason.LIMITED:
                return
        raise Stopped(f"{self._first} goes on answering")

    def open(self) -> None:
        """Take that limit away."""
        self._act(self._first, "DELETE", _QUOTA, {})

    def _change(self, uri: str, method: str, act: str, body: Mapping[str, object] | None = None) -> None:
        try:
            key = parse_bao_uri(uri)
        except BadKeyUri as fault:
            raise Stopped(fault.detail) from None
        self._act(key.vault, method, f"{key.key}{act}", body or {})

    def _act(self, server: str, method: str, path: str, body: Mapping[str, object]) -> None:
        words = [f"{name}={value}" for name, value in body.items()]
        verb = "delete" if method == "DELETE" else "write" if words else "write -f"
        line = " ".join([f"bao {verb} {path}", *words])
        self._show(f"BAO_ADDR=https://{server} {line}")
        if (fault := self._ask(server, method, path, body)) is not None:
            raise Stopped(f"`{line}` on {server} failed: {fault.reason} {fault.raw}")

    def _ask(self, server: str, method: str, path: str, body: Mapping[str, object]) -> VaultFault | None:
        own = self._customer.settings.servers[server]
        with asyncio.Runner() as runner:
            return runner.run(self._asked(server, own, method, path, dict(body)))

    async def _asked(
        self, server: str, own: OpenBaoServer, method: str, path: str, body: dict[str, object]
    ) -> VaultFault | None:
        import aiohttp  # which no other command needs

        from twinlock.vaults.openbao.client import Client
        from twinlock.vaults.openbao.login import Credentials

        deadline, folder = self._customer.settings.deadline, self._customer.folder
        client = Client(f"https://{server}/v1/", folder / own.ca_file if own.ca_file else None, 1, deadline)
        try:
            async with asyncio.timeout(deadline):
                lease = await Credentials(own.login(folder), own.namespace_path, client, SystemClock()).lease()
                return (await client.send(method, path, body or None, lease.token)).fault
        except VaultFault as fault:
            return fault
        except (TimeoutError, OSError, aiohttp.ClientError) as fault:
            return VaultFault(Reason.UNREACHABLE, type(fault).__name__)
        finally:
            await client.close()
