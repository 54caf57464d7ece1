"""Where it all happens: broker nodes, a database, two vaults, and a fleet that reaches each of them through a proxy."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from schemas.names import OPERATOR
from tests.fleet.installation import Detours, Fleet
from tests.fleet.replica import Replica
from tests.servers.background import Line, line_to
from tests.servers.openbao import Mount, OpenBao
from tests.servers.postgres import Postgres
from tests.servers.rabbitmq import RabbitNode
from twinlock.keys.ports import Outcome

DRIVER = str(Path(__file__).with_name("stepped_driver.py"))
DATABASE = "chaos"
STARTING = 240.0  # seconds for everybody to be ready: all start at once, on whatever machine this is
QUIET = 200.0  # seconds: what was tried in vain three times is tried again after two minutes
# Times that fit into minutes: keys live for seconds, so that each trouble of a vault is met by somebody, and who lost a
# lease, a wake-up or an answer does not wait for an hour.
_SETTINGS = """
[content]
batch_items = 4
[custody]
dep_key_ttl = 6.0
keep_seconds = 3.0
availability_ttl = 3.0
vault_deadline = 2.0
probe_interval = 5.0
refusal_schedule = [1.0, 2.0]
[custody.evidence]
failures = 2
over_seconds = 2.0
[workers]
assign_batch = 5
lease_seconds = 15.0
lost_wake_seconds = 15.0
trouble_first = 0.5
trouble_most = 4.0
reconcile_seconds = 0.5
sweep_seconds = 5.0
[openbao]
allow_http = true
deadline = 1.5
"""
_SERVER = '[openbao.servers."127.0.0.1:{port}"]\ntoken_file = "{token}"\n'


@dataclass(frozen=True)
class Vault:
    """Hold one customer vault: its server, where its keys lie, and the way there."""

    server: OpenBao
    mount: Mount
    line: Line
    token: Path

    def uri(self, key: str) -> str:
        """Return the URI of a key, as the fleet reaches it."""
        return self.mount.uri(key, self.line.proxy.port)


@dataclass
class Stage:
    """Hold everything that runs."""

    folder: Path
    nodes: list[RabbitNode]
    cluster: Postgres
    vaults: list[Vault]
    broker: Line  # the workers' way to the broker
    database: Line  # the workers' way to the database
    fleet: Fleet
    each: int
    wrong: Path  # by how much the wall clocks of all workers are off
    forged: set[str] = field(default_factory=set)  # ids of events that are nobody's to tell
    ailing: dict[int, Outcome] = field(default_factory=dict)  # by number, what the keys of a vault in trouble come to
    fill: Callable[[], str] = str  # has an outsider fill the queue of its requests, and says how

    def up(self) -> RabbitNode:
        """Return a broker node that runs, by which whoever asks the broker itself does so from now on."""
        self.fleet.node = next(node for node in self.nodes if node.running)
        return self.fleet.node

    def staff(self) -> None:
        """Start what is missing; whoever has ended without being killed fails the run."""
        assert all(replica.running for replica in self.fleet.replicas), self.fleet.replicas
        self.fleet.staff(self.each, STARTING)

    def kill(self, replica: Replica) -> None:
        """Kill a replica as a crash would."""
        replica.kill()
        self.fleet.ended(replica)

    def set_clocks(self, seconds: float) -> None:
        """Set the wall clocks of all workers wrong by so much."""
        fresh = self.wrong.with_suffix(".new")
        fresh.write_text(str(seconds))
        fresh.rename(self.wrong)


@contextmanager
def staged(folder: Path, nodes: int, each: int) -> Iterator[Stage]:
    """Start everything, with so many broker nodes and so many replicas of each worker, and end it."""
    old = os.umask(0o077)
    with ExitStack() as stack:
        stack.callback(os.umask, old)
        brokers = _nodes(stack, folder, nodes)
        cluster = Postgres(durable=True)
        stack.callback(cluster.close)
        cluster.start()
        vaults = [_vault(stack, folder / name) for name in ("left", "right")]
        ports = [node.port for node in brokers]
        lines = [stack.enter_context(line_to(*way)) for way in (ports, [cluster.port], ports)]
        lines[1].proxy.records = False  # there is too much of it; what matters of it is in the tables
        settings = _SETTINGS + "".join(
            _SERVER.format(port=vault.line.proxy.port, token=vault.token) for vault in vaults
        )
        fleet = Fleet(folder, brokers[0], cluster, DATABASE, settings)
        stack.callback(fleet.dismiss)
        stage = Stage(folder, brokers, cluster, vaults, lines[0], lines[1], fleet, each, folder / "wrong")
        stage.set_clocks(0.0)
        fleet.program = (sys.executable, DRIVER, str(stage.wrong))
        fleet.detours = Detours(lines[0].proxy.port, lines[1].proxy.port, quick=5)
        fleet.operator = {"TWINLOCK_BROKER": brokers[0].url(fleet.vhost.name, OPERATOR, lines[2].proxy.port)}
        yield stage


def _nodes(stack: ExitStack, folder: Path, count: int) -> list[RabbitNode]:
    found: list[RabbitNode] = []
    for number in range(count):
        place = folder / f"rabbit-{number}"
        place.mkdir()
        node = RabbitNode(place, found[0] if found else None, clustered=count > 1)
        stack.callback(node.close)
        node.start()
        found.append(node)
    return found


def _vault(stack: ExitStack, folder: Path) -> Vault:
    folder.mkdir()
    server = OpenBao(folder)
    stack.callback(server.close)
    server.start()
    mount, token = server.mount(), folder / "token"
    token.write_text(mount.token())
    return Vault(server, mount, stack.enter_context(line_to(server.port)), token)
