"""Measure assignment and re-encryption with 1, 2 and 4 replicas of their workers, and name what holds them up.

A whole fleet on private servers, durable as in production: every replica is a process with its own login and role. An
assignment is measured while nobody re-encrypts, and is one job: more replicas do more assignments at a time, and none
of them faster. Then the replicas that re-encrypt start on all the mailboxes that it left.
Shares of processor time are Linux's own, of each part between two looks; 1.00 is one core. It needs Linux.
"""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from bench._shares import CORES, Shares, Snapshot
from cli.wiring.parts import Parts
from schemas.identifiers import MailboxKind
from schemas.names import DEP_ASSIGNER, MAILBOX_REENCRYPTOR
from schemas.requests import AssignmentRequested
from tests.fleet.installation import Fleet
from tests.servers.postgres import Postgres
from tests.servers.rabbitmq import RabbitNode
from twinlock.content.mailboxes import NewMailbox
from twinlock.content.plain import BytesPlain
from twinlock.custody.port import USER, Asker, service
from twinlock.store.unit import Cause, new_id

MAILBOXES, ITEMS, REPLICAS = 2000, 3, (1, 2, 4)
_AT_ONCE = 16
_LOOK_SECONDS = 0.2
_LONGEST = 900.0
_ITEM = 4096  # bytes
_POLICIES = ("one", "two")
_ASSIGNED = f"SELECT count(*) = 0 FROM requests WHERE type = '{AssignmentRequested.type}' AND outcome IS NULL"  # noqa: S608  # ours
_DUE = "UPDATE jobs SET not_before = now()"
_TO_DO = f"SELECT count(*) FROM jobs WHERE worker = '{MAILBOX_REENCRYPTOR}'"  # noqa: S608


@contextmanager
def fleet() -> Iterator[Fleet]:
    """Start private servers and one of every worker, with the settings that a fleet has by default."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="twinlock-bench-")))
        postgres = stack.enter_context(closing(Postgres(durable=True)))
        (node := folder / "node").mkdir()
        rabbit = stack.enter_context(closing(RabbitNode(node)))
        postgres.start()
        rabbit.start()
        made = stack.enter_context(closing(Fleet(folder / "fleet", rabbit, postgres, "bench")))
        (made.home / "twinlock.toml").unlink()  # a test's: small steps
        made.staff(1)
        yield made


def furnish(installation: Fleet) -> None:
    """Make a tenant with two policies, and its mailboxes under the provider's keys."""
    installation.ask("tenant", "add", "acme")
    for name in _POLICIES:
        uris = [f"local://{vault}/{name}" for vault in ("left", "right")]
        for uri in uris:
            installation.ask("key", "create", uri)
        keys = [word for uri in uris for word in ("--key", uri)]
        installation.ask("policy", "create", "--tenant", "acme", "--name", name, "--workload", "mailbox", *keys)
    installation.within(fill)


async def fill(parts: Parts) -> None:
    """Add the mailboxes, some at a time."""
    places = asyncio.Semaphore(_AT_ONCE)
    async with asyncio.TaskGroup() as group:
        for number in range(MAILBOXES):
            group.create_task(_fill_one(parts, f"m{number:05}@acme.example", places))


async def _fill_one(parts: Parts, address: str, places: asyncio.Semaphore) -> None:
    cause = Cause(new_id())
    async with places:
        new = NewMailbox(address, "acme", MailboxKind.USER, licensed=True)
        await parts.mailboxes.add(new, Asker(service("add-mailbox"), cause, deadline=60.0))
        for _ in range(ITEMS):
            await parts.items.put(address, BytesPlain("eml", os.urandom(_ITEM)), Asker(USER, cause, deadline=60.0))


def measure(installation: Fleet, replicas: int, policy: str) -> None:
    """Assign everything to a policy, and then re-encrypt it, each with so many replicas; print what it took."""
    installation.leave(MAILBOX_REENCRYPTOR)
    staff(installation, DEP_ASSIGNER, replicas)
    before = Snapshot.take()
    installation.ask("policy", "assign", f"acme/{policy}", "--all-mailboxes", "--no-wait")
    until(installation, _ASSIGNED)
    tell("assignment", replicas, Shares.between(before, Snapshot.take()), 0)
    if installation.value(_TO_DO) != MAILBOXES:
        raise RuntimeError("not every mailbox waits to be re-encrypted")
    installation.value(f"{_DUE} + interval '1 day'")  # until every replica takes work
    staff(installation, MAILBOX_REENCRYPTOR, replicas)
    before = Snapshot.take()
    installation.value(_DUE)
    until(installation, f"SELECT ({_TO_DO}) = 0")
    tell("re-encryption", replicas, Shares.between(before, Snapshot.take()), ITEMS)


def staff(installation: Fleet, worker: str, replicas: int) -> None:
    """Have so many replicas of a worker, all of them ready."""
    for _ in range(replicas - len(installation.of(worker))):
        installation.start(worker)
    installation.all_ready()


def until(installation: Fleet, query: str) -> None:
    """Look again and again until the database says so."""
    deadline = time.monotonic() + _LONGEST
    while not installation.value(query):
        if time.monotonic() > deadline:
            raise RuntimeError(f"it is not done in {_LONGEST:.0f} s")
        time.sleep(_LOOK_SECONDS)


def tell(work: str, replicas: int, shares: Shares, items: int) -> None:
    """Print what was measured."""
    rate = MAILBOXES / shares.seconds
    told = f"{rate:6.0f} mailboxes/s" + (f" {rate * items:7.0f} items/s" if items else "")
    print(f"{work}, {replicas} replicas: {told}\n  cores: {shares}\n  held up by {shares.bottleneck}", flush=True)


def main() -> int:
    """Measure with every number of replicas, each time onto another policy."""
    print(f"{MAILBOXES} mailboxes with {ITEMS} items of {_ITEM} bytes; this machine has {CORES} cores for all parts")
    with fleet() as installation:
        furnish(installation)
        for round_, replicas in enumerate(REPLICAS):
            measure(installation, replicas, _POLICIES[round_ % 2])
    return 0


if __name__ == "__main__":
    sys.exit(main())
