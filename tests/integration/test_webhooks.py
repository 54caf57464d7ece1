"""Webhooks: signed, tried again, given up, and nobody's trouble but the subscriber's own."""

import asyncio
import hashlib
import hmac
import json
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import func, select

from events.dead_letters import bury, listing, retry
from events.handler import Received
from events.ladder import Ladder
from events.quiet import pending
from events.transport import Message
from schemas.envelope import enclose, parse, serialise
from schemas.facts import AlertChanged, AlertRaised
from schemas.identifiers import AlertNews, Audience, Severity
from schemas.names import ALERT_EMITTER
from tests.guides import write_files
from tests.servers.certificates import Certificates
from tests.servers.receiver import Receiver, flood, receiving, silence, status
from twinlock.clock import ManualClock, SystemClock
from twinlock.keys.webhook import signature
from twinlock.store.tables.bus import deliveries, outbox
from twinlock.store.unit import Cause, Store
from workers.alert_emitter.http import HttpPoster
from workers.alert_emitter.posting import Post, give_up_strangers
from workers.alert_emitter.sending import Poster, Sender, Undelivered
from workers.alert_emitter.webhooks import BadSecret, Webhook

if TYPE_CHECKING:
    from tests.conftest import OpenStore

GUIDE = Path(__file__).parents[2] / "docs" / "subscribing.md"
CAUSE = Cause("test")
SECRET = b"a secret of a webhook, long enough"
LADDER = Ladder(tiers=(10.0, 60.0), spread=0.0)
MOMENT = "2026-01-02T03:04:05.000006+00:00"
SLOW = 20.0  # a deadline that no test waits for


def alert(**about: Any) -> AlertChanged:
    """Make news of an alert."""
    fields = {"alert": "a1", "version": 1, "news": AlertNews.OPENED, "kind": "key-revoked", "count": 1} | about
    fields |= {"severity": about.get("severity", Severity.WARNING), "tenant": about.get("tenant", "acme")}
    fields |= {"audience": about.get("audience", Audience.CUSTOMER), "detail": "the key is disabled"}
    return AlertChanged.model_validate({**fields, "first_seen": MOMENT, "last_seen": MOMENT})


@dataclass
class Hooks:
    """Hold the store and the folder of the secrets."""

    store: Store
    clock: ManualClock
    folder: Path

    def hook(self, receiver: Receiver | None = None, **about: Any) -> Webhook:
        """Name a receiver, or one of example's that is never asked, as a webhook."""
        url = receiver.url if receiver else "https://pager.example/alerts"
        return replace(Webhook(url, Path("pager"), allow_http=True, deadline=SLOW), **about)

    def sender(self, name: str, hook: Webhook, post: Poster | None = None) -> Sender:
        """Make a sender, as a process of its own would."""
        return Sender(self.store, name, hook, post or HttpPoster(self.folder), LADDER)

    async def tell(self, event: AlertChanged, name: str, **hooks: Webhook) -> bytes:
        """Have the worker take news of an alert, twice, and return the bytes of it."""
        envelope = enclose(
            event, event_id=name, source="urn:test", time=self.clock.now(), correlation="c", causation=None
        )
        post = Post(hooks)
        for _ in range(2):
            plan = await post.prepare(event, Received(envelope, ALERT_EMITTER))
            async with self.store.begin(CAUSE) as unit:
                await post.commit(unit, plan)
        return serialise(envelope)

    async def waiting(self) -> list[tuple[str, str, int]]:
        """Return what waits: for whom, which, and how often it was tried."""
        row = deliveries.c
        async with self.store.read() as reader:
            return [tuple(found) for found in await reader.rows(select(row.consumer, row.id, row.attempts))]


@pytest.fixture
def hooks(store: Store, clock: ManualClock, tmp_path: Path) -> Hooks:
    (tmp_path / "pager").write_bytes(SECRET + b"\n")
    return Hooks(store, clock, tmp_path)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as found:
        yield found


def test_signature() -> None:
    """The header is what anybody computes from the moment, the body and the secret; each secret signs."""
    old, new = (hmac.new(secret, b'17.{"a":1}', hashlib.sha256).hexdigest() for secret in (b"old", b"new"))

    assert f"t=17,v1={old},v1={new}" == signature([b"old", b"new"], 17, b'{"a":1}')


async def test_posted(hooks: Hooks, receiver: Receiver) -> None:
    """What is posted is the event as it is on the bus, once, signed over its bytes and this moment."""
    hook = hooks.hook(receiver)
    body = await hooks.tell(alert(), "e1", pager=hook)
    await hooks.sender("pager", hook).pass_once()
    (posted,) = receiver.posted
    moment = int(hooks.clock.now().timestamp())
    expected = hmac.new(SECRET, b"%d." % moment + body, hashlib.sha256).hexdigest()

    assert (body, "/alerts") == (posted.body, posted.path)
    assert f"t={moment},v1={expected}" == posted.headers["Twinlock-Signature"]
    assert ("e1", "application/cloudevents+json") == (
        posted.headers["Twinlock-Delivery"],
        posted.headers["Content-Type"],
    )
    assert parse(posted.body)[1] == alert()
    assert [] == await hooks.waiting()


async def test_tried_again(hooks: Hooks, receiver: Receiver) -> None:
    """A failure is tried again after a pause that grows, signed anew; the others rest a moment, and go first."""
    hook = hooks.hook(receiver)
    receiver.answers = [status(500), status(204), status(503)]
    for name in ("e1", "e2"):
        await hooks.tell(alert(), name, pager=hook)
    sender = hooks.sender("pager", hook)
    tried = []
    for seconds in (0, 1, 5, 3, 1, 59, 1):
        hooks.clock.advance(seconds)
        before = len(receiver.posted)
        await sender.pass_once()
        tried.append([each.headers["Twinlock-Delivery"] for each in receiver.posted[before:]])

    assert [["e1"], [], ["e2"], [], ["e1"], [], ["e1"]] == tried
    assert 4 == len({each.headers["Twinlock-Signature"] for each in receiver.posted})
    assert [] == await hooks.waiting()


async def test_dead(hooks: Hooks, receiver: Receiver) -> None:
    """At the end of the ladder a delivery is a dead letter of its subscriber, told once, and can be retried."""
    hook = hooks.hook(receiver)
    receiver.answers = [status(500)] * 6
    await hooks.tell(alert(), "e1", pager=hook)
    await hooks.tell(alert(kind="dead-letter", tenant="provider"), "e2", pager=hook)
    sender = hooks.sender("pager", hook)
    for _ in range(6):
        await sender.pass_once()
        hooks.clock.advance(60)
    async with hooks.store.read() as reader:
        letters = await listing(reader)
        raised = await reader.rows(select(outbox.c.body).where(outbox.c.type == AlertRaised.type))

    assert [("webhook:pager", "e1", 3, "it answered 500"), ("webhook:pager", "e2", 3, "it answered 500")] == [
        (letter.consumer, letter.id, letter.attempts, letter.reason) for letter in letters
    ]
    # The alert about dead letters that nobody took is not told by another one.
    assert ["webhook:pager gave up on twinlock.alert.changed.v1 e1: it answered 500"] == [
        json.loads(row.body)["data"]["detail"] for row in raised
    ]

    async with hooks.store.begin(CAUSE) as unit:
        assert 2 == await retry(unit)
    await sender.pass_once()

    assert [["e1", "e2"], []] == [
        [each.headers["Twinlock-Delivery"] for each in receiver.posted[6:]],
        await hooks.waiting(),
    ]


async def test_slow_subscriber(hooks: Hooks, receiver: Receiver) -> None:
    """While one subscriber says nothing another gets its alerts, a command waits for neither, and a stop is short."""
    slow, fast = hooks.hook(receiver), hooks.hook(receiver)
    receiver.answers = [silence]
    for name in ("e1", "e2"):
        await hooks.tell(alert(), name, slow=slow)
    async with asyncio.timeout(SLOW), asyncio.TaskGroup() as group:
        held = group.create_task(hooks.sender("slow", slow).pass_once())
        await receiver.arrived.wait()
        async with hooks.store.read() as reader:
            left = await pending(reader, "c", hooks.clock.now())
        await hooks.tell(alert(), "e3", fast=fast)
        await hooks.sender("fast", fast).pass_once()
        held.cancel()

    assert ["e1", "e3"] == [each.headers["Twinlock-Delivery"] for each in receiver.posted]
    assert left.quiet


async def test_deadline(hooks: Hooks, receiver: Receiver) -> None:
    """A try is bounded: by an answer that does not come, and by one that does not end."""
    receiver.answers = [silence, flood]
    post = HttpPoster(hooks.folder)
    with pytest.raises(Undelivered, match="no answer within"):
        await post(hooks.hook(receiver, deadline=0.2), "e1", 17, b"{}")
    async with asyncio.timeout(SLOW):
        await post(hooks.hook(receiver), "e1", 17, b"{}")


async def test_redirect(hooks: Hooks, receiver: Receiver) -> None:
    """A redirect is a failure: the secret's signature goes where the settings say, and nowhere else."""
    receiver.answers = [status(307, Location="/elsewhere")]
    with pytest.raises(Undelivered, match="307, and redirects are not followed"):
        await HttpPoster(hooks.folder)(hooks.hook(receiver), "e1", 17, b"{}")

    assert ["/alerts"] == [each.path for each in receiver.posted]


async def test_nobody_there(hooks: Hooks) -> None:
    """What can't be reached, or speaks no TLS, is said without the URL."""
    async with receiving() as gone:
        pass
    for url in (f"{gone.url}?token=hidden", gone.url.replace("http:", "https:")):
        with pytest.raises(Undelivered, match=r"^it can't be reached: \w+$"):
            await HttpPoster(hooks.folder)(hooks.hook(None, url=url), "e1", 17, b"{}")


async def test_ca_file(hooks: Hooks) -> None:
    """An authority of the subscriber's own is trusted where `ca_file` says so, read for each try, and nowhere else."""
    made, tls = Certificates(hooks.folder), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(made.certificate, made.key)
    post, own = HttpPoster(hooks.folder), Path("own.pem")
    async with receiving(tls) as receiver:
        with pytest.raises(Undelivered, match=r"^it can't be reached: \w+CertificateError$"):
            await post(hooks.hook(receiver), "e1", 17, b"{}")
        for content in (None, b"rubbish"):
            if content is not None:
                (hooks.folder / own).write_bytes(content)
            with pytest.raises(Undelivered, match="ca_file can't be read"):
                await post(hooks.hook(receiver, ca_file=own), "e1", 17, b"{}")

        assert [] == receiver.posted
        (hooks.folder / own).write_bytes(made.authority.read_bytes())
        await post(hooks.hook(receiver, ca_file=own), "e1", 17, b"{}")

        assert 1 == len(receiver.posted)


async def test_ends_in_the_middle(hooks: Hooks, receiver: Receiver) -> None:
    """A process that ends after the post and before its commit leaves the delivery to the next one, under its id."""
    hook = hooks.hook(receiver)
    await hooks.tell(alert(), "e1", pager=hook)

    class Ended(BaseException):
        pass

    async def post_and_end(hook: Webhook, delivery: str, at: int, body: bytes) -> None:
        await HttpPoster(hooks.folder)(hook, delivery, at, body)
        raise Ended

    with pytest.raises(Ended):
        await hooks.sender("pager", hook, post_and_end).pass_once()
    again = hooks.sender("pager", hook)
    await again.pass_once()

    assert 1 == len(receiver.posted)

    hooks.clock.advance(20 * SLOW + 30)
    await again.pass_once()

    assert ["e1", "e1"] == [each.headers["Twinlock-Delivery"] for each in receiver.posted]
    assert [] == await hooks.waiting()


async def test_replicas(hooks: Hooks, open_store: "OpenStore", receiver: Receiver) -> None:
    """Several processes share a subscriber's queue, and none sends what another has."""
    hook = hooks.hook(receiver)
    for number in range(30):
        await hooks.tell(alert(), f"e{number}", pager=hook)
    async with asyncio.TaskGroup() as group:
        for store in (hooks.store, await open_store()):
            sender = Sender(store, "pager", hook, HttpPoster(hooks.folder), LADDER)
            group.create_task(sender.pass_once())

    assert {f"e{number}" for number in range(30)} == {each.headers["Twinlock-Delivery"] for each in receiver.posted}
    assert 30 == len(receiver.posted)


@pytest.mark.parametrize(
    ("about", "wanted"),
    [
        ({}, True),
        ({"audience": Audience.CUSTOMER, "tenants": ("rival", "acme"), "severity": Severity.WARNING}, True),
        ({"audience": Audience.ENGINEERING}, False),
        ({"tenants": ("rival",)}, False),
        ({"severity": Severity.CRITICAL}, False),
    ],
)
def test_wants(about: dict[str, Any], wanted: bool) -> None:
    """A subscriber gets what is for its audience, of its tenants, and bad enough."""
    assert wanted == Webhook("https://pager.example", Path("pager"), **about).wants(alert())


def test_secrets(tmp_path: Path) -> None:
    """A secret is read from its file, also two of them; one that is missing or short is refused, and never shown."""
    hook = Webhook("https://pager.example/T0KEN", Path("pager"))
    path = tmp_path / "pager"
    with pytest.raises(BadSecret, match="can't be read"):
        hook.secrets(tmp_path)
    for text in ("", "short", f"{SECRET.decode()}\nshort"):
        path.write_text(text)
        with pytest.raises(BadSecret) as caught:
            hook.secrets(tmp_path)
        assert "short" not in caught.value.detail
    path.write_bytes(SECRET + b"\n\n" + SECRET[::-1])

    assert [SECRET, SECRET[::-1]] == hook.secrets(tmp_path)
    assert "T0KEN" not in repr(hook)


async def test_removed(hooks: Hooks) -> None:
    """What waits for a webhook that the settings do not name any more is a dead letter in the end; no command waits."""
    hook = hooks.hook()
    await hooks.tell(alert(), "e1", gone=hook, kept=hook)
    quiet = []
    for seconds in (0, 10, 589):
        hooks.clock.advance(seconds)
        await give_up_strangers(hooks.store, {"kept": hook})
        async with hooks.store.read() as reader:
            quiet.append((await pending(reader, "c", hooks.clock.now())).quiet)
            assert [] == await listing(reader)
    hooks.clock.advance(1)
    await give_up_strangers(hooks.store, {"kept": hook})

    assert [False, True, True] == quiet

    async with hooks.store.read() as reader:
        letters = await listing(reader)

    assert [("webhook:gone", "the settings name no such webhook any more")] == [
        (letter.consumer, letter.reason) for letter in letters
    ]
    assert [("webhook:kept", "e1", 0)] == await hooks.waiting()


async def test_rubbish_is_told(store: Store) -> None:
    """A letter that pretends to be news of an alert, and is none, is told as any other."""
    async with store.begin(CAUSE) as unit:
        await bury(unit, "webhook:pager", Message("x", "s", "i", AlertChanged.type, "c", b"[]"), 1, "rubbish")
        assert 1 == len([each for each in unit.emitted if each.type == AlertRaised.type])


async def test_guide(hooks: Hooks) -> None:
    """The guide's receiver takes a delivery once; one changed, replayed later or signed by another gets nowhere."""
    write_files(GUIDE, hooks.folder)
    command = (sys.executable, "receive.py", "pager", "0")
    server = await asyncio.create_subprocess_exec(
        *command, cwd=hooks.folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    assert server.stdout is not None
    try:
        async with asyncio.timeout(60):
            port = (await server.stdout.readline()).split()[-1].decode()
            url = f"http://127.0.0.1:{port}/alerts"
            envelope = enclose(
                alert(), event_id="e1", source="urn:test", time=hooks.clock.now(), correlation="c", causation=None
            )
            body, now = serialise(envelope), int(SystemClock().now().timestamp())
            await HttpPoster(hooks.folder)(hooks.hook(None, url=url), "e1", now, body)
            answers = [await _post(url, *each) for each in _attempts(now, body)]
            shown = await server.stdout.readline()
            server.kill()
            rest = await server.stdout.read()
    finally:
        if server.returncode is None:
            server.kill()
        await server.wait()

    assert [204, 204, 400, 400, 400, 400, 400] == answers
    assert b"key-revoked opened - the key is disabled\n" == shown
    assert b"" == rest


def _attempts(now: int, body: bytes) -> list[tuple[str, bytes]]:
    """Return a repetition, one with a second secret, and what must be refused."""
    good = signature([SECRET], now, body)
    return [
        (good, body),
        (signature([b"the next secret of it", SECRET], now, body), body),
        (good, body.replace(b"disabled", b"enabled")),
        (signature([SECRET], now - 600, body), body),
        (good.replace(f"t={now}", f"t={now + 1}"), body),
        (signature([b"somebody else's secret"], now, body), body),
        ("t=²,v1=é", body),
    ]


async def _post(url: str, header: str, body: bytes) -> int:
    request = urllib.request.Request(url, body, {"Twinlock-Signature": header.encode("latin-1").decode("latin-1")})  # noqa: S310  # our own URL
    try:
        with await asyncio.to_thread(urllib.request.urlopen, request) as response:
            return int(response.status)
    except urllib.error.HTTPError as refused:
        refused.close()
        return refused.code


async def test_counts(hooks: Hooks) -> None:
    """Nothing is stored for alerts that no subscriber wants."""
    await hooks.tell(alert(), "e1", pager=replace(hooks.hook(), tenants=("rival",)))
    async with hooks.store.read() as reader:
        assert 0 == await reader.scalar(select(func.count()).select_from(deliveries))


async def test_embedded(receiver: Receiver, tmp_path: Path) -> None:
    """In a home that needs no server a command posts the alert that it caused before it ends."""
    home, program = tmp_path / "home", str(Path(sys.executable).parent / "twinlock")

    async def twinlock(line: str) -> Any:
        command = await asyncio.create_subprocess_exec(
            program, "--home", str(home), *line.split(), "--json", stdout=asyncio.subprocess.PIPE
        )
        out, _ = await command.communicate()
        assert 0 == command.returncode, line
        return json.loads(out)

    for line in ("init", "tenant add acme", "key create local://left/a", "key create local://right/b"):
        await twinlock(line)
    await twinlock(
        "policy create --tenant acme --name main --workload mailbox --key local://left/a --key local://right/b"
    )
    (home / "secrets" / "pager").write_bytes(SECRET)
    with (home / "twinlock.toml").open("a") as settings:
        settings.write(f'\n[webhooks.pager]\nurl = "{receiver.url}"\nallow_http = true\nsecret_file = "pager"\n')
        settings.write('severity = "critical"\ntenants = ["acme"]\n')
    receiver.answers = [status(500)]
    await twinlock("policy revoke acme/main")
    (listed,) = await twinlock("webhook list")

    assert ["policy-revoked"] == [json.loads(each.body)["data"]["kind"] for each in receiver.posted]
    assert ("pager", 1, 0) == tuple(listed[name] for name in ("name", "waiting", "dead"))
