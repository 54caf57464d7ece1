"""Logging in to a real server: tokens and AppRoles, their leases, and what is said when they are refused."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.openbao.conftest import CONTEXT, PAYLOAD, Bench, refused, together
from tests.servers.openbao import OpenBao
from twinlock.keys.ports import Denied, Misconfigured, Unclear, VaultFailure
from twinlock.vaults.openbao.settings import OpenBaoServer

HOUR = 3600.0


def count(bench: Bench, *paths: str) -> Callable[[], list[int]]:
    """Count the requests to some paths from now on."""
    seen = dict.fromkeys(paths, 0)

    def look(data: bytes) -> None:
        for path in paths:
            seen[path] += data.count(f"/{path} HTTP/1.1\r\n".encode())

    bench.proxy.passing = look
    return lambda: list(seen.values())


def verdict(failure: VaultFailure) -> tuple[type[VaultFailure], str]:
    """Return what a failure is judged by."""
    return type(failure), failure.raw.partition(" ")[0]


async def test_approle(bench: Bench) -> None:
    """An AppRole logs in once for many calls at the same time."""
    vault = bench.open(bench.approle(token_ttl="1h"))
    logins = count(bench, "login")
    wrapped = await bench.wrap(vault)
    await together(20, lambda: vault.unwrap(wrapped, CONTEXT))

    assert [1] == logins()


async def test_first_calls_together(bench: Bench) -> None:
    """Many first calls at the same time log in once."""
    vault = bench.open(bench.approle(token_ttl="1h"))
    logins = count(bench, "login")
    bench.mount.create("root")
    await together(20, lambda: vault.describe(bench.uri))

    assert [1] == logins()


async def test_first_calls_fail_together(bench: Bench) -> None:
    """Many first calls that can't log in ask once, and all of them are told."""
    vault = bench.open(bench.approle())
    (bench.folder / "secret").write_text("wrong")
    logins = count(bench, "login")
    failures: list[VaultFailure] = []

    async def failing() -> None:
        failures.append(await refused(vault.describe(bench.uri)))

    await together(20, failing)

    assert [(Misconfigured, "login-refused")] * 20 == [verdict(each) for each in failures]
    assert [1] == logins()


async def test_renewal(bench: Bench) -> None:
    """A token is renewed once two thirds of its lease are over, by one of those who call then."""
    vault = bench.open(bench.approle(token_ttl="1h", token_max_ttl="10h"))
    asked = count(bench, "login", "renew-self")
    wrapped = await bench.wrap(vault)
    bench.clock.advance(HOUR * 0.6)
    await vault.unwrap(wrapped, CONTEXT)
    early = asked()
    bench.clock.advance(HOUR * 0.1)
    await together(20, lambda: vault.unwrap(wrapped, CONTEXT))

    assert [1, 0] == early
    assert [1, 1] == asked()


async def test_end_of_life(bench: Bench) -> None:
    """A token that can't be renewed any further is replaced before it ends."""
    vault = bench.open(bench.approle(token_ttl="1h"))
    asked = count(bench, "login", "renew-self")
    wrapped = await bench.wrap(vault)
    # The server's clock does not move with ours: a shorter life is what makes its renewals too short.
    bench.mount.change_approle(token_ttl="10m", token_max_ttl="10m")
    bench.clock.advance(HOUR * 0.7)
    await vault.unwrap(wrapped, CONTEXT)

    assert [2, 1] == asked()


async def test_over(bench: Bench) -> None:
    """After a silence in which the token has ended, a new login is made, and nothing is tried with the old one."""
    vault = bench.open(bench.approle(token_ttl="1h"))
    asked = count(bench, "login", "renew-self", "decrypt/root")
    wrapped = await bench.wrap(vault)
    bench.clock.advance(HOUR * 2)
    await vault.unwrap(wrapped, CONTEXT)

    assert [2, 0, 1] == asked()


async def test_renewal_fails(bench: Bench, openbao: OpenBao) -> None:
    """A renewal that fails costs nobody a call, and is tried again later; the token is good until it ends."""
    login = bench.token_login(bench.mount.token(ttl="1h", renewable=True))
    vault = bench.open(login)
    asked = count(bench, "renew-self")
    wrapped = await bench.wrap(vault)
    bench.clock.advance(HOUR * 0.7)
    with openbao.limited("auth/token/renew-self", 1):
        openbao.api("POST", "auth/token/renew-self", {}, token=bench.mount.token(ttl="1h"))
        await vault.unwrap(wrapped, CONTEXT)
        await vault.unwrap(wrapped, CONTEXT)
        during = asked()
    bench.clock.advance(HOUR * 0.1)
    await vault.unwrap(wrapped, CONTEXT)

    assert [[1], [2]] == [during, asked()]


async def test_token_replaced_in_its_file(bench: Bench, openbao: OpenBao) -> None:
    """A token that was revoked is unclear; a new one in its file is taken up without anybody's help."""
    vault = bench.open()
    wrapped = await bench.wrap(vault)
    openbao.api("POST", "auth/token/revoke", {"token": bench.token_file.read_text()})
    failure = await refused(vault.unwrap(wrapped, CONTEXT))
    bench.token_file.write_text(bench.mount.token())

    assert (Unclear, "token-lost") == verdict(failure)
    assert PAYLOAD == await vault.unwrap(wrapped, CONTEXT)


async def test_approle_after_revocation(bench: Bench, openbao: OpenBao) -> None:
    """A revoked token of an AppRole is replaced within the call that met it."""
    vault = bench.open(bench.approle())
    wrapped = await bench.wrap(vault)
    bench.mount.revoke_logins()

    assert PAYLOAD == await vault.unwrap(wrapped, CONTEXT)


async def test_approle_denied(bench: Bench) -> None:
    """A fresh login that is let in, and still may not use the key, is a denial: one new login, and one more request."""
    vault = bench.open(bench.approle())
    wrapped = await bench.wrap(vault)
    bench.mount.forbid()
    asked = count(bench, "login", "decrypt/root")

    assert (Denied, "permission-denied") == verdict(await refused(vault.unwrap(wrapped, CONTEXT)))
    assert [1, 2] == asked()


async def test_approle_gone(bench: Bench) -> None:
    """Where the place of our login is gone, nobody can tell yet whose act it was."""
    vault = bench.open(bench.approle())
    wrapped = await bench.wrap(vault)
    bench.mount.remove_logins()

    assert (Unclear, "login-gone") == verdict(await refused(vault.unwrap(wrapped, CONTEXT)))


async def test_bad_token(bench: Bench) -> None:
    """A token that never worked is our own mistake."""
    vault = bench.open(bench.token_login("s.nonsense"))

    assert (Misconfigured, "token-refused") == verdict(await refused(vault.describe(bench.uri)))


async def test_token_that_may_not_look_at_itself(bench: Bench) -> None:
    """A token without the default policy works, and a denial of it is told from its loss."""
    vault = bench.open(bench.token_login(bench.mount.token(no_default_policy=True)))
    wrapped = await bench.wrap(vault)
    bench.mount.forbid()

    assert (Unclear, "token-lost") == verdict(await refused(vault.unwrap(wrapped, CONTEXT)))


async def test_expired_token(bench: Bench, openbao: OpenBao) -> None:
    """A token that was refused after its end is our own mistake: we did not renew it."""
    vault = bench.open(bench.token_login(bench.mount.token(ttl="1h")))
    wrapped = await bench.wrap(vault)
    openbao.api("POST", "auth/token/revoke", {"token": bench.token_file.read_text()})
    bench.clock.advance(HOUR + 1)

    assert (Misconfigured, "token-refused") == verdict(await refused(vault.unwrap(wrapped, CONTEXT)))


@pytest.mark.parametrize("content", [None, b"", b"two words", b"\xff\xfe", b"a\nb", b"x" * 5000])
async def test_bad_file(bench: Bench, content: bytes | None) -> None:
    """A file that holds no token is our own mistake, whatever is in it, and is read again for the next call."""
    path = bench.folder / "given"
    if content is not None:
        path.write_bytes(content)
    vault = bench.open(OpenBaoServer(token_file=path))
    bench.mount.create("root")
    failure = await refused(vault.describe(bench.uri))
    path.write_text(bench.mount.token() + "\n")

    assert (Misconfigured, "file-unreadable") == verdict(failure)
    assert (await vault.describe(bench.uri)).enabled


async def test_cancelled_login(bench: Bench) -> None:
    """A caller that gives up while it logs in for others leaves the login to the next of them."""
    vault = bench.open(bench.approle())
    bench.mount.create("root")
    begun = asyncio.Event()
    bench.proxy.passing = lambda data: begun.set()
    first, second = (asyncio.ensure_future(vault.describe(bench.uri)) for _ in range(2))
    await begun.wait()
    first.cancel()

    assert (await second).enabled
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_no_secret_in_sight(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """No repr, no failure and no log shows a token or a secret id, also while both are refused."""
    caplog.set_level(logging.DEBUG)
    login = bench.approle()
    vault = bench.open(login)
    wrapped = await bench.wrap(vault)
    bench.mount.forbid()
    denied = await refused(vault.unwrap(wrapped, CONTEXT))
    secret = (bench.folder / "secret").read_text()
    bench.mount.remove_logins()
    lost = await refused(vault.unwrap(wrapped, CONTEXT))
    objects = [vault, login, wrapped, denied, lost, denied.__dict__, lost.__dict__, vars(vault)]
    lease = [server._credentials._lease for server in vault._servers.values()]
    shown = caplog.text + "".join(map(repr, [*objects, *lease]))

    assert lease[0] is not None
    assert secret not in shown
    assert lease[0].token not in shown


def test_relative_files() -> None:
    """Files without a full path lie in the folder of secrets."""
    login = OpenBaoServer(token_file=Path("contoso/token")).login(Path("/etc/twinlock"))

    assert "TokenFile(path=PosixPath('/etc/twinlock/contoso/token'))" == repr(login)
