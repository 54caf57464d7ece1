"""What passes to and from the broker, and what it keeps on its disk: no mail, no key, of whatever kind."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

import pytest

from schemas.names import OPERATOR
from tests.faults.searching import Search, pages, record_keys
from tests.fleet.conftest import make_policy
from tests.fleet.held_keys import signing_keys, stored_keys, vault_keys
from tests.fleet.installation import WORKERS, Fleet
from tests.servers.proxy import Proxy, proxied

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
