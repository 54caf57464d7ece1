"""Hedged unwraps over real sockets: whatever becomes of a request, the loser's connection is gone with it."""

import asyncio
import base64
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random

import psutil

from schemas.identifiers import Slot
from tests.integration.openbao.conftest import KEY, together
from tests.servers.openbao import OpenBao
from tests.servers.proxy import Proxy, proxied
from twinlock.clock import SystemClock
from twinlock.custody.decision import ROOT_SLOTS
from twinlock.custody.guards import Guards
from twinlock.custody.hedge import Hedged
from twinlock.custody.latency import Latencies
from twinlock.custody.rows import StoredPolicyKey
from twinlock.custody.settings import GuardSettings, HedgeSettings
from twinlock.custody.unwrap import SlotAsker
from twinlock.keys.ports import WrappedKey
from twinlock.keys.root_payload import seal
from twinlock.keys.secret import SecretKey
from twinlock.vaults.directory import VaultDirectory
from twinlock.vaults.openbao.settings import OpenBaoServer, OpenBaoSettings
from twinlock.vaults.openbao.uris import HTTP, HTTPS
from twinlock.vaults.openbao.vault import OpenBaoVault

POLICY_KEY = SecretKey.generate()
STORED = StoredPolicyKey("t", "p", 1, POLICY_KEY.commitment(), {})
# Every request that takes longer than a moment is hedged, however many.
EAGER = HedgeSettings(initial=0.001, floor=0.0, burst=1e9, warm_up=10**9)


class Wire:
    """Speak just as much HTTP as an unwrap needs, and see what becomes of every request.

    `moods` are the seconds after which an unwrap is answered, one of them at random; None is never.
    """

    def __init__(self, slot: Slot, rng: Random, *moods: float | None) -> None:
        self.slot = slot
        self.port = 0
        self.seen: Counter[str] = Counter()
        self.open: set[Connection] = set()
        self.answer = _http({"plaintext": base64.b64encode(seal(POLICY_KEY, STORED.context(slot))).decode()})
        self._rng = rng
        self._moods = moods

    def mood(self) -> float | None:
        """Say after how many seconds to answer."""
        return self._rng.choice(self._moods)


class Connection(asyncio.Protocol):
    """Hold one connection to a wire."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._received = b""
        self._timer: asyncio.TimerHandle | None = None
        self._waits = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._wire.open.add(self)

    def data_received(self, data: bytes) -> None:
        """Take a request, once it is there as a whole."""
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        length = head.partition(b"Content-Length: ")[2].split(b"\r\n")[0] or b"0"
        if not end or len(body) < int(length):
            return
        self._received = b""
        if head.startswith(b"GET "):
            self._transport.write(_http({"expire_time": None}))
        else:
            self._asked(self._wire.mood())

    def _asked(self, due: float | None) -> None:
        self._wire.seen["asked"] += 1
        self._waits = True
        if due is not None:
            self._timer = asyncio.get_running_loop().call_later(due, self._answer)

    def _answer(self) -> None:
        self._wire.seen["answered"] += 1
        self._waits = False
        self._transport.write(self._wire.answer)

    def connection_lost(self, exc: Exception | None) -> None:
        """See whether somebody still waited for an answer."""
        self._wire.seen["aborted"] += self._waits
        self._wire.open.remove(self)
        if self._timer is not None:
            self._timer.cancel()


def _http(data: dict[str, object]) -> bytes:
    body = json.dumps({"data": data}).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


@asynccontextmanager
async def wired(*wires: Wire) -> AsyncIterator[None]:
    """Listen."""
    async with AsyncExitStack() as stack:
        for wire in wires:
            server = await asyncio.get_running_loop().create_server(partial(Connection, wire), "127.0.0.1", 0)
            wire.port = server.sockets[0].getsockname()[1]
            stack.push_async_callback(server.wait_closed)
            stack.callback(server.close)
        yield


def hedged(vault: OpenBaoVault) -> Hedged:
    """Hedge over a vault, whichever of its servers is asked."""
    clock = SystemClock()
    # A fast machine makes the thousands of calls quicker than a real vault would allow.
    unlimited = Guards(clock, GuardSettings(vault_rate=1e6, vault_burst=1e6, tenant_rate=1e6, tenant_burst=1e6))
    vaults = VaultDirectory({HTTP: vault, HTTPS: vault})
    asker = SlotAsker(vaults, clock, 60.0, Latencies(clock, EAGER), unlimited)
    return Hedged(asker, clock, Latencies(clock, EAGER), EAGER, Random(1))  # noqa: S311  # the same in every run


def left() -> tuple[set[asyncio.Task[object]], int]:
    """Return the tasks that run, and how many sockets of this process are in use."""
    return asyncio.all_tasks(), len(psutil.Process().net_connections("tcp"))


async def settled(*wires: Wire) -> None:
    """Wait until no connection is open."""
    while any(wire.open for wire in wires):  # noqa: ASYNC110  # nothing else is done meanwhile
        await asyncio.sleep(0.01)


async def test_thousands_leave_nothing(tmp_path: Path) -> None:
    """Thousands of hedges leave no task and no socket, and every request that lost was seen to go by its vault."""
    rng = Random(3)  # noqa: S311  # every run must draw the same moods
    wires = Wire(Slot.A, rng, 0.0, 0.02, None, None), Wire(Slot.B, rng, 0.0, 0.0, 0.002, 0.004)
    (tmp_path / "token").write_text("s.token")
    async with wired(*wires):
        login = OpenBaoServer(token_file=tmp_path / "token")
        servers = {f"127.0.0.1:{wire.port}": login for wire in wires}
        vault = OpenBaoVault(OpenBaoSettings(60.0, 16, True, servers), tmp_path, SystemClock())
        copies = {w.slot: WrappedKey(f"bao+http://127.0.0.1:{w.port}/t/keys/k", "1", "i", bytes(92)) for w in wires}
        stored, unwrap, before = replace(STORED, copies=copies), hedged(vault), left()

        async def some() -> None:
            for _ in range(125):
                assert POLICY_KEY == (await unwrap(stored, [])).key

        await together(20, some)
        tasks, _ = left()
        await vault.close()
        await settled(*wires)
        seen = wires[0].seen + wires[1].seen

        assert before[0] == tasks
        assert before == left()
        assert 3500 < seen["asked"] <= 2 * 2500
        assert seen["asked"] == seen["answered"] + seen["aborted"]
        assert 800 < seen["aborted"]


@asynccontextmanager
async def two(
    openbaos: tuple[OpenBao, OpenBao], folder: Path
) -> AsyncIterator[tuple[OpenBaoVault, list[Proxy], StoredPolicyKey]]:
    """Open a vault on both servers, over TLS and each behind a proxy, with a copy of the policy key on each."""
    servers, uris, proxies = {}, {}, []
    async with AsyncExitStack() as stack:
        for slot, server in zip(ROOT_SLOTS, openbaos, strict=True):
            proxies.append(await stack.enter_async_context(proxied(server.tls_port)))
            mount, place, token = server.mount(), f"127.0.0.1:{proxies[-1].port}", folder / slot.value
            mount.create(KEY)
            token.write_text(mount.token())
            uris[slot] = f"bao+https://{place}/{mount.path}/keys/{KEY}"
            servers[place] = OpenBaoServer(token_file=token, ca_file=server.certificates.authority)
        vault = OpenBaoVault(OpenBaoSettings(60.0, 16, False, servers), folder, SystemClock())
        stack.push_async_callback(vault.close)
        places = {slot: STORED.context(slot) for slot in ROOT_SLOTS}
        copies = {slot: await vault.wrap(uris[slot], seal(POLICY_KEY, at), at.encode()) for slot, at in places.items()}
        yield vault, proxies, replace(STORED, copies=copies)


def sockets(proxy: Proxy) -> int:
    """Count the sockets of this process that lead to a proxy."""
    return sum(bool(each.raddr) and each.raddr.port == proxy.port for each in psutil.Process().net_connections("tcp"))


async def test_silence_over_tls(openbaos: tuple[OpenBao, OpenBao], tmp_path: Path) -> None:
    """Where a vault falls silent, a request over TLS ends with its connection, and waits for no farewell."""
    async with two(openbaos, tmp_path) as (vault, (silent, _), stored):
        unwrap, place = hedged(vault), STORED.context(Slot.A).encode()

        async def one() -> None:
            found = await unwrap(stored, [])
            assert (Slot.B, POLICY_KEY) == (found.slot, found.key)

        silent.delay = 0.05  # so that nobody finds another's connection free
        await together(12, lambda: vault.unwrap(stored.copies[Slot.A], place))
        during = sockets(silent)
        silent.half_open()
        await together(24, one)

        assert 12 == during
        assert 0 == sockets(silent)
