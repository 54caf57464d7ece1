"""Connections to a real server: TLS, outages, slowness, bounds, and that nothing is left of a call."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from tests.integration.openbao.conftest import CONTEXT, KEY, PAYLOAD, Bench, refused
from tests.servers.openbao import OpenBao
from tests.servers.process import free_ports
from twinlock.keys.ports import Misconfigured, Unavailable, Unclear, VaultFailure
from twinlock.vaults.openbao.settings import OpenBaoServer, OpenBaoSettings
from twinlock.vaults.openbao.vault import OpenBaoVault

COUNTS = True


def verdict(failure: VaultFailure) -> tuple[type[VaultFailure], str, bool]:
    """Return what a failure is judged by."""
    return type(failure), failure.raw.partition(" ")[0], failure.counts


def tasks() -> set[asyncio.Task[object]]:
    """Return the tasks that are not the proxy's."""
    return {
        task for task in asyncio.all_tasks() if not getattr(task.get_coro(), "__qualname__", "").startswith("Proxy.")
    }


@asynccontextmanager
async def behaving(
    behave: Callable[[asyncio.StreamReader, asyncio.StreamWriter], object],
) -> AsyncIterator[int]:
    """Listen on a port, and treat whoever connects so."""

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behave(reader, writer)

    server = await asyncio.start_server(meet, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


def elsewhere(bench: Bench, port: int, host: str = "127.0.0.1", scheme: str = "bao+http") -> tuple[OpenBaoVault, str]:
    """Open a vault on another port, and name a key there."""
    login = bench.token_login("s.token")
    vault = OpenBaoVault(
        OpenBaoSettings(allow_http=True, deadline=20.0, servers={f"{host}:{port}": login}), bench.folder, bench.clock
    )
    bench.stack.push_async_callback(vault.close)
    return vault, f"{scheme}://{host}:{port}/transit/keys/{KEY}"


def over_tls(bench: Bench, openbao: OpenBao, login: OpenBaoServer) -> tuple[OpenBaoVault, str]:
    """Open a vault on the server's own port for TLS, and name a key there."""
    vault = OpenBaoVault(OpenBaoSettings(servers={f"127.0.0.1:{openbao.tls_port}": login}), bench.folder, bench.clock)
    bench.stack.push_async_callback(vault.close)
    return vault, f"bao+https://127.0.0.1:{openbao.tls_port}/{bench.mount.path}/keys/{KEY}"


async def test_tls(bench: Bench, openbao: OpenBao) -> None:
    """Over TLS a server is trusted by the authority in `ca_file`."""
    login = replace(bench.token_login(bench.mount.token()), ca_file=openbao.certificates.authority)
    vault, uri = over_tls(bench, openbao, login)
    bench.mount.create(KEY)
    wrapped = await vault.wrap(uri, PAYLOAD, CONTEXT)

    assert PAYLOAD == await vault.unwrap(wrapped, CONTEXT)


async def test_untrusted(bench: Bench, openbao: OpenBao) -> None:
    """A certificate that nobody trusted vouches for is our own trouble, and no token is sent."""
    vault, uri = over_tls(bench, openbao, bench.token_login(bench.mount.token()))

    assert (Misconfigured, "certificate", False) == verdict(await refused(vault.describe(uri)))


@pytest.mark.parametrize("content", [None, "rubbish"])
async def test_bad_authority(bench: Bench, openbao: OpenBao, content: str | None) -> None:
    """A file without certificates is our own mistake, and is read again for the next call."""
    path = bench.folder / "authority.pem"
    if content is not None:
        path.write_text(content)
    vault, uri = over_tls(bench, openbao, replace(bench.token_login(bench.mount.token()), ca_file=path))
    bench.mount.create(KEY)
    failure = await refused(vault.describe(uri))
    path.write_bytes(openbao.certificates.authority.read_bytes())

    assert (Misconfigured, "file-unreadable", False) == verdict(failure)
    assert (await vault.describe(uri)).enabled


async def test_http_to_tls(bench: Bench, openbao: OpenBao) -> None:
    """Speaking HTTP to a port for TLS, or TLS to one for HTTP, is our own mistake."""
    vault, uri = elsewhere(bench, openbao.tls_port)
    other, secure = elsewhere(bench, openbao.port, scheme="bao+https")

    assert (Misconfigured, "not-tls", False) == verdict(await refused(vault.describe(uri)))
    assert (Misconfigured, "not-tls", False) == verdict(await refused(other.describe(secure)))


async def test_http_is_off(bench: Bench) -> None:
    """Without the setting nothing is sent in the clear."""
    vault = bench.open(allow_http=False)

    assert (Misconfigured, "bad-uri", False) == verdict(await refused(vault.describe(bench.uri)))
    assert 0 == bench.proxy.accepted


async def test_unknown_server(bench: Bench) -> None:
    """A server that no setting names is never called."""
    vault = bench.open(servers={})

    assert (Misconfigured, "no-login", False) == verdict(await refused(vault.describe(bench.uri)))
    assert 0 == bench.proxy.accepted


@pytest.mark.parametrize("scheme", ["bao+http", "bao+https"])
async def test_nobody_listens(bench: Bench, scheme: str) -> None:
    """A port that nobody listens on is an outage, and counts."""
    vault, uri = elsewhere(bench, free_ports(1)[0], scheme=scheme)

    assert (Unavailable, "unreachable", COUNTS) == verdict(await refused(vault.describe(uri)))


async def test_unknown_host(bench: Bench) -> None:
    """A name that does not resolve is unclear: a vault that was deleted looks like it."""
    vault, uri = elsewhere(bench, 8200, host="no-such-host.invalid")

    assert (Unclear, "host-unknown", False) == verdict(await refused(vault.describe(uri)))


@pytest.mark.parametrize("scheme", ["bao+http", "bao+https"])
async def test_hung_up(bench: Bench, scheme: str) -> None:
    """Whoever accepts and hangs up, in the handshake or before an answer, is unavailable, and counts."""
    async with behaving(lambda reader, writer: writer.close()) as port:
        vault, uri = elsewhere(bench, port, scheme=scheme)

        assert (Unavailable, "unreachable", COUNTS) == verdict(await refused(vault.describe(uri)))


@pytest.mark.parametrize("budget", [0, 10, 200, 600])
async def test_broken_off(bench: Bench, budget: int) -> None:
    """An exchange that breaks off anywhere is unavailable, counts, and the next call is well."""
    vault = bench.open()
    wrapped = await bench.wrap(vault)
    bench.proxy.budget = budget
    failure = await refused(vault.unwrap(wrapped, CONTEXT))
    bench.proxy.heal()

    assert (Unavailable, "unreachable", COUNTS) == verdict(failure)
    assert PAYLOAD == await vault.unwrap(wrapped, CONTEXT)


async def test_silence(bench: Bench) -> None:
    """A server that says nothing is unavailable at the deadline, counts, and no connection is kept."""
    vault = bench.open(deadline=0.3)
    wrapped = await bench.wrap(vault)
    bench.proxy.half_open()
    failure = await refused(vault.unwrap(wrapped, CONTEXT))
    bench.proxy.heal()
    bench.proxy.cut()

    assert (Unavailable, "no-answer", COUNTS) == verdict(failure)


async def test_own_queue_is_no_evidence(bench: Bench) -> None:
    """Who does not get one of our connections learns nothing about the vault (law 5)."""
    vault = bench.open(deadline=2.0, connections=1)
    wrapped = await bench.wrap(vault)
    bench.proxy.half_open()
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(refused(vault.unwrap(wrapped, CONTEXT))) for _ in range(3)]

    assert [(Unavailable, "no-answer", COUNTS), *[(Unavailable, "connections-in-use", False)] * 2] == [
        verdict(call.result()) for call in calls
    ]


async def test_bounded_connections(bench: Bench) -> None:
    """Many calls at the same time share the connections that the settings allow, and keep them for later ones."""
    vault = bench.open(connections=3, deadline=60.0)
    wrapped = await bench.wrap(vault)
    for _ in range(2):
        async with asyncio.TaskGroup() as group:
            for _ in range(60):
                group.create_task(vault.unwrap(wrapped, CONTEXT))

    assert bench.proxy.accepted <= 3


async def test_cancelled_calls_leave_nothing(bench: Bench) -> None:
    """A call that is cancelled while the vault works takes its connection with it, and the vault sees it go."""
    vault = bench.open()
    wrapped = await bench.wrap(vault)
    await vault.close()
    await bench.proxy.settled()
    before, begun = tasks(), asyncio.Semaphore(0)
    bench.proxy.passing = lambda data: begun.release()
    for _ in range(20):
        call = asyncio.ensure_future(vault.unwrap(wrapped, CONTEXT))
        await begun.acquire()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await bench.proxy.settled()

    assert before == tasks()


async def test_closing_leaves_nothing(bench: Bench) -> None:
    """A closed vault has no connection and no task; used again it opens anew."""
    vault = bench.open()
    wrapped = await bench.wrap(vault)
    await vault.close()
    await bench.proxy.settled()
    before = tasks()
    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(vault.unwrap(wrapped, CONTEXT))
    during = bench.proxy.carried
    await vault.close()
    await bench.proxy.settled()

    assert before == tasks()
    assert during > 0
