"""The process of a token's library can be killed, can hang, and ends with its parent; what is asked goes on."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.integration.pkcs11.conftest import CONTEXT, PAYLOAD, TOKEN, Bench, at_last, refused
from tests.servers.softhsm import PIN
from twinlock.keys.ports import Unavailable
from twinlock.vaults.pkcs11.frames import encode
from twinlock.vaults.pkcs11.keeper import COMMAND
from twinlock.vaults.pkcs11.vault import Pkcs11Vault

pytestmark = pytest.mark.servers


def process_of(vault: Pkcs11Vault) -> int:
    """Return the number of the process that runs for the token."""
    found = vault.keeper(TOKEN).process
    assert found is not None
    return found


async def test_killed_in_the_middle(bench: Bench) -> None:
    """A process killed in the middle of a request is an outage that counts, and the next request starts another."""
    vault = bench.open()
    wrapped = await bench.wrap(vault)
    first = process_of(vault)
    os.kill(first, signal.SIGSTOP)
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(refused(vault.unwrap(wrapped, CONTEXT)))
        await asyncio.sleep(0)
        os.kill(first, signal.SIGKILL)
    failure = asked.result()

    assert (Unavailable, "library-crashed", True) == (type(failure), failure.raw, failure.counts)
    assert PAYLOAD == await vault.unwrap(wrapped, CONTEXT)
    assert first != process_of(vault)


async def test_killed_in_between(bench: Bench) -> None:
    """A process that was killed while nobody asked is replaced before anybody notices."""
    vault = bench.open()
    wrapped = await bench.wrap(vault)
    first = process_of(vault)
    os.kill(first, signal.SIGKILL)
    while vault.keeper(TOKEN).process is not None:  # noqa: ASYNC110  # the loop has no event for it
        await asyncio.sleep(0.01)

    assert PAYLOAD == await vault.unwrap(wrapped, CONTEXT)
    assert first != process_of(vault)


async def test_hangs(bench: Bench) -> None:
    """A process that hangs is an outage that counts once the deadline is over, and it is ended and replaced."""
    vault = bench.open(deadline=2.0)
    bench.make()
    wrapped = await bench.open().wrap(bench.uri, PAYLOAD, CONTEXT)
    await at_last(vault, wrapped)
    first = process_of(vault)
    os.kill(first, signal.SIGSTOP)
    failure = await refused(vault.unwrap(wrapped, CONTEXT))

    assert (Unavailable, "no-answer", True) == (type(failure), failure.raw, failure.counts)
    assert PAYLOAD == await at_last(vault, wrapped)
    assert first != process_of(vault)
    await vault.close()
    assert not psutil.pid_exists(first)


async def test_hangs_for_the_impatient(bench: Bench) -> None:
    """A process that hangs is ended though every caller leaves before our deadline; one that was left goes on."""
    vault = bench.open(deadline=2.0)
    bench.make()
    wrapped = await bench.open().wrap(bench.uri, PAYLOAD, CONTEXT)
    await at_last(vault, wrapped)
    first = process_of(vault)
    os.kill(first, signal.SIGSTOP)
    while vault.keeper(TOKEN).process == first:
        with suppress(TimeoutError, Unavailable):  # the last of them may meet the next process, and be served
            async with asyncio.timeout(0.2):
                await vault.unwrap(wrapped, CONTEXT)

    assert PAYLOAD == await at_last(vault, wrapped)


async def test_many_at_once(bench: Bench) -> None:
    """Many calls at the same time share one process and one login."""
    vault = bench.open()
    wrapped = await bench.wrap(vault)
    first = process_of(vault)
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(vault.unwrap(wrapped, CONTEXT)) for _ in range(30)]

    assert [PAYLOAD] * 30 == [call.result() for call in calls]
    assert first == process_of(vault)


async def test_nothing_in_sight(bench: Bench) -> None:
    """The PIN is neither among the process's arguments nor in its environment, which holds nothing of ours."""
    vault = bench.open()
    await bench.wrap(vault)
    process = psutil.Process(process_of(vault))

    assert PIN not in " ".join(process.cmdline())
    assert bench.tokens.environment == {
        name: value for name, value in process.environ().items() if name not in ("LC_CTYPE",)
    }


async def test_closed(bench: Bench) -> None:
    """Closing the vault ends its processes, and a later call starts new ones."""
    vault = bench.open()
    wrapped = await bench.wrap(vault)
    first = process_of(vault)
    await vault.close()

    assert not psutil.pid_exists(first)
    assert PAYLOAD == await vault.unwrap(wrapped, CONTEXT)


BLOCKED = """
import time
from twinlock.vaults.pkcs11 import child

class Blocked:
    def __init__(self, settings):
        print("noise of a library", flush=True)
    def do(self, request):
        time.sleep(3600)

child.Token = Blocked
child.main()
"""


@pytest.mark.parametrize("blocked", [False, True])
def test_parent_dies(blocked: bool, bench: Bench) -> None:
    """The process ends when its parent does, also while its library blocks; a library's noise is no answer."""
    first = {"id": 0, "token": TOKEN, "module": str(bench.tokens.module), "serial": "", "slot": None, "pin": PIN}
    command = [sys.executable, "-I", "-c", BLOCKED] if blocked else COMMAND
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={}) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(encode(first) + (encode({"id": 1, "operation": "look"}) if blocked else b""))
        process.stdin.flush()
        hello = process.stdout.read(len(encode({"id": 0, "ok": {}})))
        process.stdin.close()

        assert {"id": 0, "ok": {}} == json.loads(hello[4:])
        assert int(blocked) == process.wait(120)


async def test_module(bench: Bench) -> None:
    """A library that is none, or is not there, is our own mistake."""
    (bench.folder / "no-library.so").write_text("nothing")
    for module in (bench.folder / "no-library.so", Path("/nowhere/libnone.so")):
        failure = await refused(bench.open(module=module).describe(bench.uri))

        assert "module-unusable" == failure.raw
