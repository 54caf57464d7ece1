"""Law 9: a broker that swaps, forges, replays, truncates or answers first gets no key and gives none that is wrong."""

import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from twinlock.custody.callers.enrolment import enroll, retire
from twinlock.custody.callers.replays import forget
from twinlock.custody.errors import CustodianSilent, NotPermitted, WrongAnswer
from twinlock.custody.port import ContainerRef, OpenedKey
from twinlock.custody.remote.carrying import carry_out
from twinlock.custody.remote.exchange import Exchange
from twinlock.custody.remote.frames import Frame, reply_frame, request_frame
from twinlock.custody.remote.host import SKEW_SECONDS
from twinlock.custody.remote.messages import LIFETIME_SECONDS, KeyOpened, OpenContainerKey, Reply, Request
from twinlock.keys.errors import DecryptionError
from twinlock.keys.secret import SecretKey
from twinlock.keys.signing import SigningKey, fingerprint
from twinlock.store.tables.custody import taken_requests

if TYPE_CHECKING:
    from tests.integration.custody.conftest import Custody
    from tests.integration.custody.rpc.conftest import Afar

SHORT = 0.15  # a deadline that leaves no time for a second try
Deliver = Callable[[bytes, bytes | None], Iterable[bytes]]


@pytest.fixture
async def ref(custody: "Custody") -> ContainerRef:
    """Return a container whose key somebody wants."""
    return await custody.container(await custody.policy("p"))


async def _open(afar: "Afar", ref: ContainerRef, deadline: float = 60.0) -> OpenedKey:
    return await afar.caller("operator").open_container_key(ref, afar.user(deadline))


def _forged(request: bytes, key: SigningKey, secret: SecretKey | None = None) -> bytes:
    """Answer a request as somebody would who can read it and holds a key of his own."""
    asked = Request.model_validate_json(Frame.parse(request, len(request)).content)
    assert isinstance(asked.operation, OpenContainerKey)
    body = KeyOpened(ref=asked.operation.ref, keep_seconds=60.0, by_availability_key=False)
    reply = Reply(body=body).model_dump_json().encode()
    return reply_frame(key, request, asked.reply_key, reply, secret or SecretKey.generate())


async def test_law_9_answers_first(afar: "Afar", ref: ContainerRef) -> None:
    """Law 9: any number of forged answers before the custodian's own change nothing, and deny nothing."""
    thief = SigningKey.generate()
    afar.wire.deliver = lambda request, reply: [_forged(request, thief), b"", b"\x01" * 200, reply or b""]

    opened = await _open(afar, ref)
    afar.wire.deliver = lambda _request, reply: [reply or b""]

    assert opened.key == (await _open(afar, ref)).key


async def test_law_9_swapped_key(afar: "Afar", ref: ContainerRef) -> None:
    """Law 9: a key that somebody else sealed and signed is no answer."""
    thief = SigningKey.generate()
    afar.wire.deliver = lambda request, _reply: [_forged(request, thief)]

    with pytest.raises(CustodianSilent):
        await _open(afar, ref, SHORT)
    assert [] != afar.wire.requests


async def test_law_9_under_the_custodians_name(afar: "Afar", ref: ContainerRef) -> None:
    """Law 9: the fingerprint of the custodian's key before another's signature is no answer."""
    thief, name = SigningKey.generate(), fingerprint(afar.key.public)

    def _dressed(request: bytes, _reply: bytes | None) -> list[bytes]:
        forged = _forged(request, thief)
        return [forged[:1] + name + forged[33:]]

    afar.wire.deliver = _dressed
    with pytest.raises(CustodianSilent):
        await _open(afar, ref, SHORT)


async def test_law_9_a_worker_is_no_custodian(afar: "Afar", ref: ContainerRef) -> None:
    """Law 9: another worker's enrolled key signs no answers."""
    afar.wire.deliver = lambda request, _reply: [_forged(request, afar.keys["dep_assigner"])]

    with pytest.raises(CustodianSilent):
        await _open(afar, ref, SHORT)


async def test_law_9_old_reply(afar: "Afar", ref: ContainerRef) -> None:
    """Law 9: the custodian's own reply to an earlier request is no answer to this one."""
    await _open(afar, ref)
    old = afar.wire.replies[0]
    afar.wire.deliver = lambda _request, _reply: [old or b""]

    with pytest.raises(CustodianSilent):
        await _open(afar, ref, SHORT)
    assert old is not None


@pytest.mark.usefixtures("once")
async def test_law_9_anothers_answer(custody: "Custody", afar: "Afar", ref: ContainerRef) -> None:
    """Law 9: answers of two calls that are exchanged on the way are no answers."""
    other = await custody.container("p", "other")
    held: list[bytes] = []
    afar.wire.deliver = lambda _request, reply: _keep(held, reply)
    for each in (ref, other):
        with pytest.raises(CustodianSilent):
            await _open(afar, each)
    afar.wire.deliver = lambda _request, _reply: held

    with pytest.raises(CustodianSilent):
        await _open(afar, ref)
    assert 2 == len([each for each in held if each])


@pytest.mark.usefixtures("once")
@pytest.mark.parametrize("cut", [0, 1, 33, 97, 120, -1])
async def test_law_9_truncated(afar: "Afar", ref: ContainerRef, cut: int) -> None:
    """Law 9: a piece of a reply is no answer."""
    afar.wire.deliver = lambda _request, reply: [(reply or b"")[:cut]]

    with pytest.raises(CustodianSilent):
        await _open(afar, ref)
    assert afar.wire.replies[0]


async def test_law_9_replayed_request(afar: "Afar", ref: ContainerRef) -> None:
    """Law 9: a request is taken once, also by a replica that was started after it, and never again."""
    await _open(afar, ref)
    request = afar.wire.requests[0]

    assert [None, None] == [await afar.serve(request), await afar.serve(request)]
    assert 1 == len(await afar.entries("container-key-opened"))
    assert ["sent before"] == [row.detail["reason"] for row in (await afar.entries("rpc-requests-ignored"))[:1]]


async def test_law_9_replayed_when_forgotten(custody: "Custody", afar: "Afar", ref: ContainerRef) -> None:
    """Law 9: by the time that a request's id is forgotten no replica would take it any more."""
    await _open(afar, ref)
    async with custody.store.read() as reader:
        kept = select(func.count()).select_from(taken_requests)
        assert 1 == await reader.scalar(kept)
        custody.clock.advance(LIFETIME_SECONDS + SKEW_SECONDS)
    assert 0 == await forget(custody.store, LIFETIME_SECONDS)
    assert await afar.serve(afar.wire.requests[0]) is None
    custody.clock.advance(LIFETIME_SECONDS + 1)

    assert 1 == await forget(custody.store, LIFETIME_SECONDS)
    assert await afar.serve(afar.wire.requests[0]) is None


async def test_law_9_delayed(custody: "Custody", afar: "Afar", ref: ContainerRef) -> None:
    """Law 9: a request that arrives after it has expired, clocks' difference allowed for, gets no answer."""
    afar.wire.change = lambda _request: b""
    with pytest.raises(CustodianSilent):
        await _open(afar, ref, SHORT)
    custody.clock.advance(SHORT + SKEW_SECONDS)

    assert await afar.serve(afar.wire.requests[0]) is None
    assert [] == await afar.entries("container-key-opened")


async def test_law_9_lasting_request(custody: "Custody", afar: "Afar", ref: ContainerRef) -> None:
    """Law 9: no request is good for longer than its lifetime, whatever its sender says."""
    request = _request(afar, ref, expires=LIFETIME_SECONDS + 2 * SKEW_SECONDS)
    assert await afar.serve(request_frame(afar.keys["operator"], request)) is None
    fine = _request(afar, ref, expires=LIFETIME_SECONDS)

    assert await afar.serve(request_frame(afar.keys["operator"], fine)) is not None


def _keep(held: list[bytes], reply: bytes | None) -> list[bytes]:
    held.append(reply or b"")
    return []


def _request(afar: "Afar", ref: ContainerRef, *, expires: float, caller: str = "operator") -> bytes:
    exchange = Exchange.begin(
        caller, afar.keys["operator"], {}, OpenContainerKey(ref=ref), afar.user(), afar.custody.clock.now(), 60
    )
    asked = json.loads(Frame.parse(exchange.request, len(exchange.request)).content)
    return json.dumps(asked | {"expires": asked["expires"] + int(1000 * expires)}).encode()


async def test_law_9_not_enrolled(afar: "Afar", ref: ContainerRef) -> None:
    """Law 9: a key that was never enrolled asks for nothing."""
    with pytest.raises(CustodianSilent):
        await afar.caller("operator", SigningKey.generate()).open_container_key(ref, afar.user(SHORT))
    assert [None] == afar.wire.replies
    assert ["unknown signer"] == [row.detail["reason"] for row in await afar.entries("rpc-requests-ignored")]


async def test_law_9_under_anothers_name(afar: "Afar", ref: ContainerRef) -> None:
    """Law 9: a worker's key asks in its own name alone."""
    with pytest.raises(CustodianSilent):
        await afar.caller("operator", afar.keys["dep_assigner"]).open_container_key(ref, afar.user(SHORT))
    assert [None] == afar.wire.replies


async def test_law_9_retired(custody: "Custody", afar: "Afar", ref: ContainerRef) -> None:
    """Law 9: a retired key asks for nothing from then on, while the name's other key still does."""
    second = SigningKey.generate()
    async with custody.store.begin(afar.user().cause) as unit:
        await enroll(unit, "operator", second.public)
        await retire(unit, "operator", fingerprint(afar.keys["operator"].public).hex())

    with pytest.raises(CustodianSilent):
        await _open(afar, ref, SHORT)
    assert await afar.caller("operator", second).open_container_key(ref, afar.user())


async def test_law_9_retired_custodian(custody: "Custody", afar: "Afar", ref: ContainerRef) -> None:
    """Law 9: answers of a retired custodian count no more, and a caller without any custodian says so."""
    async with custody.store.begin(afar.user().cause) as unit:
        await retire(unit, "tik_cache_refresher", fingerprint(afar.key.public).hex())

    with pytest.raises(NotPermitted, match="no custodian is enrolled"):
        await _open(afar, ref)


async def test_law_9_commitment(afar: "Afar", ref: ContainerRef) -> None:
    """Law 9: even what a custodian signs counts only if the key fits the container's commitment."""
    afar.wire.deliver = lambda request, _reply: [_forged(request, afar.key)]

    with pytest.raises(DecryptionError):
        await _open(afar, ref)


async def test_law_9_answers_something_else(afar: "Afar", ref: ContainerRef) -> None:
    """Law 9: a signed answer about another container is refused, and its key wiped."""
    other = ContainerRef("acme", "elsewhere", 1)
    secret = SecretKey.generate()

    def _about_another(request: bytes, _reply: bytes | None) -> list[bytes]:
        asked = Request.model_validate_json(Frame.parse(request, len(request)).content)
        body = Reply(body=KeyOpened(ref=other, keep_seconds=1.0, by_availability_key=False))
        return [reply_frame(afar.key, request, asked.reply_key, body.model_dump_json().encode(), secret)]

    afar.wire.deliver = _about_another
    with pytest.raises(WrongAnswer, match="another container"):
        await _open(afar, ref)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_law_9_any_bit_of_a_request(afar: "Afar", ref: ContainerRef, data: st.DataObject) -> None:
    """Law 9: a request with any bit flipped gets no answer."""
    body = _request(afar, ref, expires=1)
    frame = bytearray(request_frame(afar.keys["operator"], body))
    bit = data.draw(st.integers(0, 8 * len(frame) - 1))
    frame[bit // 8] ^= 1 << bit % 8

    assert await afar.serve(bytes(frame)) is None


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_law_9_any_bit_of_a_reply(afar: "Afar", ref: ContainerRef, data: st.DataObject) -> None:
    """Law 9: a reply with any bit flipped, or any byte more or less, is no answer."""
    exchange = _exchange(afar, ref)
    answer, secret = await carry_out(afar.custody.custodian, OpenContainerKey(ref=ref), afar.user())
    asked = Request.model_validate_json(Frame.parse(exchange.request, len(exchange.request)).content)
    whole = reply_frame(
        afar.key, exchange.request, asked.reply_key, Reply(body=answer).model_dump_json().encode(), secret
    )
    assert exchange.judge(whole) is not None
    frame = bytearray(whole)
    bit = data.draw(st.integers(0, 8 * len(frame) - 1))
    frame[bit // 8] ^= 1 << bit % 8

    assert [None, None, None] == [exchange.judge(each) for each in (bytes(frame), whole[:-1], whole + b"\0")]


def _exchange(afar: "Afar", ref: ContainerRef) -> Exchange:
    keys = {fingerprint(afar.key.public): afar.key.public}
    operation = OpenContainerKey(ref=ref)
    now = afar.custody.clock.now()
    return Exchange.begin("operator", afar.keys["operator"], keys, operation, afar.user(), now, 60)


@given(rubbish=st.binary(max_size=600))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_law_9_rubbish(afar: "Afar", rubbish: bytes) -> None:
    """Law 9: rubbish gets no answer and raises nothing, also where an enrolled key signed it."""
    signed = request_frame(afar.keys["operator"], rubbish or b"{}")

    assert [None, None] == [await afar.serve(rubbish), await afar.serve(signed)]


async def test_law_9_too_large(afar: "Afar", ref: ContainerRef) -> None:
    """Law 9: what is too large is refused before anything is made of it."""
    assert await afar.serve(b"\x01" * (256 * 1024 + 1)) is None
    assert _exchange(afar, ref).judge(b"\x01" * (1024 * 1024 + 1)) is None


async def test_law_9_no_key_on_the_wire(custody: "Custody", afar: "Afar", ref: ContainerRef) -> None:
    """Law 9: no message holds a key in any common spelling, and no key object of this prints itself."""
    opened = await _open(afar, ref)
    key = bytes(opened.key.expose())
    sent = b"".join(afar.wire.requests) + b"".join(reply or b"" for reply in afar.wire.replies)
    keys = [afar.key, afar.keys["operator"]]

    assert not any(spelling in sent for spelling in _spellings(key))
    assert len(sent) > 500
    assert ["<SigningKey (redacted)>"] * 2 == [repr(each) for each in keys]


def _spellings(key: bytes) -> list[bytes]:
    return [key, key.hex().encode(), b64encode(key)[:42], urlsafe_b64encode(key)[:42]]


async def test_noise_is_told_rarely(custody: "Custody", afar: "Afar", caplog: pytest.LogCaptureFixture) -> None:
    """However much rubbish comes, each reason is written down once a minute, with how often it came."""
    host = afar.host()
    for _ in range(50):
        assert await host.serve(b"rubbish") is None
    custody.clock.advance(60)
    assert await host.serve(b"rubbish") is None

    assert [1, 50] == [row.detail["count"] for row in await afar.entries("rpc-requests-ignored")]
    assert 2 == len(caplog.records)
