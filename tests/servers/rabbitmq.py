"""A private RabbitMQ node: its own data, ports, cookie and port mapper, in a folder of its own.

Methods block: a test that must not stand still calls them in a thread.
"""

import base64
import http.client
import json
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.servers.certificates import Certificates
from tests.servers.process import Process, free_ports

_PLACES = ("/usr/lib/rabbitmq/bin",)
_BOOT_SECONDS = 120.0
_CONF = """\
listeners.tcp.1 = 127.0.0.1:{port}
listeners.ssl.1 = 127.0.0.1:{tls_port}
ssl_options.certfile = {certificates.certificate}
ssl_options.keyfile = {certificates.key}
management.tcp.ip = 127.0.0.1
management.tcp.port = {http}
default_pass = {password}
loopback_users = none
disk_free_limit.absolute = 1MB
vm_memory_high_watermark.absolute = 2GB
log.file.level = warning
"""


# A node that stood still for a minute is given up by the others, and has to come back by itself.
_CLUSTER = """\
cluster_partition_handling = pause_minority
cluster_formation.peer_discovery_backend = classic_config
cluster_formation.classic_config.nodes.1 = {first}
cluster_formation.classic_config.nodes.2 = {own}
"""


class ServerMissing(RuntimeError):
    """Say which package the tests need."""


@dataclass(frozen=True, slots=True)
class Vhost:
    """Name one virtual host of a node, and the URL by which its administrator gets in."""

    name: str
    url: str


@contextmanager
def started(folder: Path) -> Iterator["RabbitNode"]:
    """Start a node, and stop it in the end."""
    node = RabbitNode(folder)
    try:
        node.start()
        yield node
    finally:
        node.close()


class RabbitNode:
    """Hold one node, stopped at first; it joins the cluster of the one it is `beside`, which is made `clustered`."""

    def __init__(self, folder: Path, beside: "RabbitNode | None" = None, *, clustered: bool = False) -> None:
        self._folder = folder
        self._first = beside or self
        self._clustered = clustered or beside is not None
        self.certificates = Certificates(folder)
        self.data = folder / "mnesia"
        self._bin = _programs()
        self.port, self.tls_port, self._http, self._distribution, self._epmd_port = free_ports(5)
        self._password, self._cookie = secrets.token_hex(8), secrets.token_hex(16)
        if beside is not None:
            self._password, self._cookie, self._epmd_port = beside._password, beside._cookie, beside._epmd_port
        self._name = f"twinlock{self.port}@localhost"
        self._epmd: Process | None = None
        self._node: Process | None = None
        self._was_down = False
        self._write_files()

    def start(self) -> None:
        """Start it with the data that it has, and wait until it takes connections."""
        self._first._map_ports()
        # A node that was killed a moment ago may still be known by its name, and then another one gives up at once.
        deadline = time.monotonic() + _BOOT_SECONDS
        while not self._started(deadline):
            time.sleep(0.2)

    @property
    def running(self) -> bool:
        """Tell whether it was started, and not ended since."""
        return self._node is not None and self._node.running

    def stop(self) -> None:
        """Stop it in good order; the data stays."""
        assert self._node is not None
        self._was_down = True
        self._node.terminate(60.0)

    def kill(self) -> None:
        """Kill it as a power failure would."""
        assert self._node is not None
        self._was_down = True
        self._node.kill()

    def pause(self) -> None:
        """Stall it: connections stay open and nothing answers."""
        assert self._node is not None
        self._node.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        assert self._node is not None
        self._node.signal(signal.SIGCONT)

    def close(self) -> None:
        """Kill whatever runs."""
        for process in (self._node, self._epmd):
            if process is not None and process.running:
                process.kill()

    def ctl(self, *arguments: str) -> str:
        """Run rabbitmqctl and return what it says; it takes a second or two."""
        command = [str(self._bin / "rabbitmqctl"), "-q", "-n", self._name, *arguments]
        done = subprocess.run(command, env=self._environment(), capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise RuntimeError(f"rabbitmqctl {arguments[0]}: {done.stderr or done.stdout}")
        return done.stdout

    def vhost(self) -> Vhost:
        """Make a fresh virtual host, on a fresh node where this one was down.

        A node of 3.10 that was down goes on with the queues that it has. But some time later it may refuse new ones,
        with an internal error, and would take all other tests down.
        """
        if self._was_down:
            self._begin_anew()
        name = f"t{secrets.token_hex(6)}"
        self.api("PUT", f"/vhosts/{name}")
        return Vhost(name, self.url(name))

    def _begin_anew(self) -> None:
        self._was_down = False
        self.close()
        shutil.rmtree(self._folder / "mnesia")
        (self._folder / "mnesia").mkdir()
        self.start()

    def drop(self, vhost: Vhost) -> None:
        """Remove a virtual host and all that is in it; one that went with its node is no more."""
        if vhost.name in {each["name"] for each in self.api("GET", "/vhosts")}:
            self.api("DELETE", f"/vhosts/{vhost.name}")

    def user(self, vhost: Vhost, name: str, configure: str, write: str, read: str) -> str:
        """Make a user with these permissions in a virtual host and return its URL."""
        self.api("PUT", f"/users/{quote(name)}", {"password": self._password, "tags": ""})
        permissions = {"configure": configure, "write": write, "read": read}
        self.api("PUT", f"/permissions/{vhost.name}/{quote(name)}", permissions)
        return self.url(vhost.name, name)

    def url(self, vhost: str, user: str = "guest", port: int | None = None) -> str:
        """Return the URL of a virtual host; `port` is that of a proxy in between."""
        return f"amqp://{quote(user, safe='')}:{self._password}@127.0.0.1:{port or self.port}/{vhost}"

    def api(self, method: str, path: str, body: object = None) -> Any:
        """Call the management interface and return what it answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self._http, timeout=30)
        login = base64.b64encode(f"guest:{self._password}".encode()).decode()
        headers = {"Authorization": f"Basic {login}", "Content-Type": "application/json"}
        connection.request(method, f"/api{path}", json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status} {content.decode(errors='replace')}")
        return json.loads(content) if content else None

    def _map_ports(self) -> None:
        if self._epmd is None or not self._epmd.running:
            epmd = [_found("epmd"), "-port", str(self._epmd_port), "-address", "127.0.0.1"]
            self._epmd = Process(epmd, self._folder / "epmd.out", self._environment())

    def _started(self, deadline: float) -> bool:
        command = [str(self._bin / "rabbitmq-server")]
        self._node = Process(command, self._folder / "node.out", self._environment())
        while self._node.running and time.monotonic() < deadline:
            try:
                self.api("GET", "/vhosts")
                return True
            except (OSError, http.client.HTTPException, RuntimeError):
                time.sleep(0.1)
        if time.monotonic() < deadline:
            return False
        said = (self._folder / "node.out").read_text(errors="replace")[-2000:]
        raise RuntimeError(f"the RabbitMQ node does not start:\n{said}")

    def _write_files(self) -> None:
        for name in ("mnesia", "log", "generated", "home"):
            (self._folder / name).mkdir()
        cookie = self._folder / "home" / ".erlang.cookie"
        cookie.write_text(self._cookie)
        cookie.chmod(0o400)
        (self._folder / "plugins").write_text("[rabbitmq_management].\n")
        ports = {"port": self.port, "tls_port": self.tls_port, "http": self._http}
        conf = _CONF.format(**ports, certificates=self.certificates, password=self._password)
        if self._clustered:
            conf += _CLUSTER.format(first=self._first._name, own=self._name)
        (self._folder / "rabbitmq.conf").write_text(conf)

    def _environment(self) -> dict[str, str]:
        folder = self._folder
        return {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "LANG": "C.UTF-8",
            "HOME": str(folder / "home"),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": self._name,
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "none.config"),
            "RABBITMQ_CONFIG_FILES": str(folder / "none.d"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_LOGS": str(folder / "log" / "node.log"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "generated"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            # One machine is shared by many: a scheduler that spins takes time from the test itself.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none",
        }


def _programs() -> Path:
    """Find the programs themselves: Debian's wrappers change the user and the environment."""
    for place in _PLACES:
        if (Path(place) / "rabbitmq-server").exists():
            return Path(place)
    if found := shutil.which("rabbitmq-server"):
        return Path(found).resolve().parent
    raise ServerMissing("the tests need RabbitMQ: install the package rabbitmq-server, or run: make servers")


def _found(program: str) -> str:
    if found := shutil.which(program):
        return found
    raise ServerMissing(f"the tests need Erlang's {program}: install the package erlang-base, or run: make servers")
