"""What passes to and from the broker, and what it keeps on its disk: no mail, no key, of whatever kind."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from sqlalchemy import select

from cli.wiring import Parts
from schemas.names import OPERATOR
from tests.faults.searching import Search, numbers_of, pages, record_keys
from tests.fleet.conftest import make_policy
from tests.fleet.installation import WORKERS, Fleet
from tests.servers.proxy import Proxy, proxied
from twinlock.keys.context import ContainerKeyContext
from twinlock.keys.secret import KEY_BYTES, SecretKey
from twinlock.keys.wrap import unwrap_key
from twinlock.store.tables.content import container_keys, containers
from twinlock.store.tables.custody import policy_key_copies
from twinlock.vaults.software.material import RsaMaterial
from twinlock.vaults.software.records import NamedKeys

PLANTED = bytes(range(100, 132))  # what a key looks like: this one has to be found, on the wires and on the disk
ADDRESS = f"{PLANTED.hex()}@acme.example"
MAIL = {name: f"canary-{name}-81c0de6b7f".encode() for name in ("subject", "body", "name-of-file")}


@contextmanager
def recording(port: int) -> Iterator[Proxy]:
    """Run a proxy beside a test that stands still."""
    begun: SimpleQueue[tuple[Proxy, asyncio.AbstractEventLoop, asyncio.Event]] = SimpleQueue()

    async def serve() -> None:
        async with proxied(port) as proxy:
            stop = asyncio.Event()
            begun.put((proxy, asyncio.get_running_loop(), stop))
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    proxy, loop, stop = begun.get(timeout=30)
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


def vault_keys(fleet: Fleet) -> dict[str, bytes]:
    """Return what the vaults hold: root keys and availability keys."""
    found: dict[str, bytes] = {}
    for path in (fleet.home / "vaults").rglob("*.json"):
        for version in NamedKeys.model_validate_json(path.read_bytes()).current.versions:
            held = version.material()
            found |= numbers_of(held._key) if isinstance(held, RsaMaterial) else {f"vault {path}": held.export()}
    return found


def signing_keys(fleet: Fleet) -> dict[str, bytes]:
    """Return the audit log's key, and the private halves of what was enrolled, as they are and as their files are."""
    found = {"audit": (fleet.home / "secrets" / "audit.key").read_bytes()}
    for path in (fleet.home.parent / "secrets").rglob("*.key"):
        key = load_pem_private_key(path.read_bytes(), None)
        found[f"signing {path.name}"] = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        found[f"signing {path.name} in its file"] = b"".join(path.read_bytes().splitlines()[1:-1])
    return found


async def stored_keys(parts: Parts) -> dict[str, bytes]:
    """Open every policy key and every container key that is stored now, by the vaults alone."""
    async with parts.store.read() as reader:
        copies = await reader.rows(select(policy_key_copies).where(policy_key_copies.c.slot == "a"))
        wrapped = await reader.rows(select(container_keys, containers.c.tenant_id).join(containers))
    policies: dict[tuple[str, int], bytes] = {}
    for copy in copies:
        path = parts.settings.home / "vaults" / f"{copy.uri.removeprefix('local://')}.json"
        root = NamedKeys.model_validate_json(path.read_bytes()).current.version(copy.key_version).material()
        policies[copy.policy_id, copy.generation] = root.unwrap(copy.ciphertext, b"")[:KEY_BYTES]
    found = {f"policy {name}": key for name, key in policies.items()}
    for row in wrapped:
        over = row.policy_id, row.policy_key_generation
        place = ContainerKeyContext(row.tenant_id, *over, row.container_id, row.generation)
        key = unwrap_key(SecretKey(policies[over]), row.wrapped, place)
        found[f"container {row.container_id} {row.generation}"] = bytes(key.expose())
    return found


def tell(fleet: Fleet, folder: Path, port: int) -> dict[str, bytes]:
    """Have a mailbox protected, moved, rolled and read through a proxy; return all keys that were stored meanwhile."""
    broker = fleet.node.url(fleet.vhost.name, OPERATOR, port)
    mail = folder / "mail"
    mail.mkdir()
    (mail / f"{MAIL['name-of-file'].decode()}.eml").write_bytes(b"Subject: %(subject)b\n\n%(body)b\n" % _bytes(MAIL))
    found: dict[str, bytes] = {}
    for command in (
        ("mailbox", "add", ADDRESS, "--tenant", "acme"),
        ("mailbox", "import", ADDRESS, str(mail)),
        ("policy", "assign", "acme/canary", "--mailbox", ADDRESS),
        ("mailbox", "move", ADDRESS),
        ("policy", "refresh", "acme/canary", "--new-policy-key"),
        ("mailbox", "export", ADDRESS, str(folder / "out")),
    ):
        fleet.ask(*command, TWINLOCK_BROKER=broker)
        found |= fleet.within(stored_keys)
    return found


def _bytes(words: dict[str, bytes]) -> dict[bytes, bytes]:
    return {name.encode(): word for name, word in words.items()}


def on_disk(fleet: Fleet) -> set[bytes]:
    """Return what the node wrote, once it has written everything."""
    fleet.node.stop()
    found = set[bytes]().union(*(pages(path.read_bytes()) for path in fleet.node.data.rglob("*") if path.is_file()))
    fleet.node.start()
    return found


def found_in(search: Search, where: set[bytes]) -> set[str]:
    return {secret for page in where for secret in search(page)}


def test_law_9_no_key_at_the_broker(fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 9: neither the broker's wires nor its disk ever have mail or a key, calls to the custodian included."""
    made = record_keys(monkeypatch)
    for worker in WORKERS:
        fleet.leave(worker)
    with recording(fleet.node.port) as proxy:
        for worker in WORKERS:
            fleet.start(worker, TWINLOCK_BROKER=fleet.node.url(fleet.vhost.name, worker, proxy.port))
        fleet.all_ready()
        make_policy(fleet, "canary")
        stored = tell(fleet, tmp_path, proxy.port)
        for worker in WORKERS:
            fleet.leave(worker)
        wires = set[bytes]().union(*(pages(bytes(passed)) for passed in proxy.recorded))
    secrets = MAIL | made | stored | vault_keys(fleet) | signing_keys(fleet)
    search = Search(secrets | {"planted": PLANTED, "call": b"open-container-key"})
    wire, disk = (found_in(search, places) for places in (wires, on_disk(fleet)))

    assert {"policy", "container", "vault", "root", "signing", "audit", "key"} <= {name.split()[0] for name in secrets}
    assert {"planted", "call"} == wire
    assert {"planted"} == disk - {"call"}
