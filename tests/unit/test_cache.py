"""Policy keys in memory: their life, their end, and who may share a call or a refusal."""

import asyncio

import pytest

from twinlock.clock import ManualClock
from twinlock.custody.cache import KeyCache, OpenedBy
from twinlock.custody.decision import Decision, Reason, Result
from twinlock.custody.flight import SingleFlight
from twinlock.custody.port import InitiatorClass
from twinlock.custody.refusals import Refusals
from twinlock.keys.errors import KeyWipedError
from twinlock.keys.secret import SecretKey

ROOT, FOR_USER, FOR_SERVICE = OpenedBy.ROOT_KEY, OpenedBy.AVAILABILITY_FOR_USER, OpenedBy.AVAILABILITY_FOR_SERVICE
USER, SERVICE = InitiatorClass.USER, InitiatorClass.SERVICE
REFUSED = Decision(Result.REFUSE, Reason.DENIED)


@pytest.fixture
def cache(clock: ManualClock) -> KeyCache:
    """Return an empty cache."""
    return KeyCache(clock)


def is_wiped(key: SecretKey) -> bool:
    """Say whether a key can no longer be used."""
    try:
        key.expose()
    except KeyWipedError:
        return True
    return False


def test_expiry_wipes(cache: KeyCache, clock: ManualClock) -> None:
    """A key is there until its time is over, and wiped after it."""
    key = SecretKey.generate()
    cache.put("p", 1, ROOT, key, 600)
    clock.advance(599.9)

    assert key is cache.find("p", 1, ROOT)

    clock.advance(0.1)

    assert cache.find("p", 1, ROOT) is None
    assert is_wiped(key)


def test_sweep(cache: KeyCache, clock: ManualClock) -> None:
    """An expired key is wiped though nobody asks for it."""
    key = SecretKey.generate()
    cache.put("p", 1, ROOT, key, 600)
    clock.advance(600)

    assert (1, True) == (cache.sweep(), is_wiped(key))


def test_law_7_tags(cache: KeyCache) -> None:
    """Law 7: what the availability key opened for one class is not found by the other, nor as a root key's."""
    cache.put("p", 1, OpenedBy.availability(SERVICE), SecretKey.generate(), 600)

    assert cache.find("p", 1, FOR_SERVICE) is not None
    assert (None, None) == (cache.find("p", 1, FOR_USER), cache.find("p", 1, ROOT))


def test_evict(cache: KeyCache) -> None:
    """Evicting a policy wipes all its generations, however they were opened, and no other policy's."""
    keys = [SecretKey.generate() for _ in range(4)]
    for name, key in zip((("p", 1, ROOT), ("p", 2, ROOT), ("p", 2, FOR_USER), ("q", 1, ROOT)), keys, strict=True):
        cache.put(*name, key, 600)

    assert 3 == cache.evict("p")
    assert [True, True, True, False] == [is_wiped(key) for key in keys]


def test_replaced_key_is_wiped(cache: KeyCache) -> None:
    """A key that is put in another's place wipes it; put in its own place it lives on."""
    old, new = SecretKey.generate(), SecretKey.generate()
    cache.put("p", 1, ROOT, old, 600)
    cache.put("p", 1, ROOT, new, 600)
    cache.put("p", 1, ROOT, new, 600)

    assert [True, False] == [is_wiped(old), is_wiped(new)]


def test_renew(cache: KeyCache, clock: ManualClock) -> None:
    """Renewing extends what a root key opened, and nothing that the availability key did."""
    cache.put("p", 1, ROOT, SecretKey.generate(), 600)
    cache.put("p", 1, FOR_USER, SecretKey.generate(), 600)
    clock.advance(300)
    cache.renew("p", 1, 600)
    cache.renew("q", 1, 600)

    assert [(FOR_USER, 600.0), (ROOT, 900.0)] == [(line.opened_by, line.expires) for line in cache.lines()]


def test_close(cache: KeyCache) -> None:
    """Closing wipes everything."""
    key = SecretKey.generate()
    cache.put("p", 1, ROOT, key, 600)
    cache.close()

    assert (True, []) == (is_wiped(key), list(cache.lines()))


class Work:
    """Count how often it is done, and end when it is told to."""

    def __init__(self) -> None:
        self.done = 0
        self.go = asyncio.Event()
        self.fault: Exception | None = None

    async def __call__(self) -> int:
        """Do the work."""
        self.done += 1
        await self.go.wait()
        if self.fault is not None:
            raise self.fault
        return self.done


async def settle() -> None:
    """Let every task go as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_single_flight() -> None:
    """Callers of one name share one piece of work, and one of them is told that it led; other names fly alone."""
    flights, work, other = SingleFlight[int](), Work(), Work()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(flights.do("p", work, 60)) for _ in range(5)]
        alone = group.create_task(flights.do("q", other, 60))
        await settle()
        work.go.set()
        other.go.set()

    assert [(1, True), *[(1, False)] * 4] == [task.result() for task in tasks]
    assert (1, True) == alone.result()


async def test_single_flight_starts_over() -> None:
    """Once a flight has landed, the next caller does the work again."""
    flights, work = SingleFlight[int](), Work()
    work.go.set()
    await flights.do("p", work, 60)

    assert (2, True) == await flights.do("p", work, 60)


async def test_cancelled_leader() -> None:
    """Followers of a cancelled leader start over: one leads, nobody is stranded."""
    flights, work = SingleFlight[int](), Work()
    async with asyncio.TaskGroup() as group:
        leader = group.create_task(flights.do("p", work, 60))
        await settle()
        followers = [group.create_task(flights.do("p", work, 60)) for _ in range(3)]
        await settle()
        leader.cancel()
        await settle()
        work.go.set()

    assert leader.cancelled()
    assert [(2, True), (2, False), (2, False)] == [task.result() for task in followers]


async def test_leader_out_of_time() -> None:
    """A leader whose own deadline is over fails alone: its followers start over."""
    flights, work = SingleFlight[int](), Work()
    work.fault = TimeoutError()
    async with asyncio.TaskGroup() as group:
        leader = group.create_task(_outcome(flights, work))
        await settle()
        follower = group.create_task(_outcome(flights, Work()))
        await settle()
        work.go.set()
        await leader
        follower.cancel()

    assert "TimeoutError" == leader.result()


async def _outcome(flights: SingleFlight[int], work: Work) -> str:
    try:
        return str(await flights.do("p", work, 60))
    except Exception as fault:  # noqa: BLE001  # the test asks which exception came
        return type(fault).__name__


async def test_failure_is_shared() -> None:
    """Any other failure of the leader is everybody's."""
    flights, work = SingleFlight[int](), Work()
    work.fault = LookupError()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_outcome(flights, work)) for _ in range(3)]
        await settle()
        work.go.set()

    assert (["LookupError"] * 3, 1) == ([task.result() for task in tasks], work.done)


async def test_impatient_follower() -> None:
    """A follower that runs out of time, or is cancelled, disturbs nobody."""
    flights, work = SingleFlight[int](), Work()
    async with asyncio.TaskGroup() as group:
        leader = group.create_task(flights.do("p", work, 60))
        await settle()
        cancelled = group.create_task(flights.do("p", work, 60))
        with pytest.raises(TimeoutError):
            await flights.do("p", work, 0)
        cancelled.cancel()
        await settle()
        work.go.set()

    assert (1, True) == leader.result()


@pytest.fixture
def refusals(clock: ManualClock) -> Refusals:
    """Return a memory with a short schedule."""
    return Refusals(clock, (30, 60, 300))


def test_refusal_is_held(refusals: Refusals, clock: ManualClock) -> None:
    """A refusal is held for 30 s, for its own class of callers alone."""
    refusals.remember("p", 1, USER, REFUSED)
    clock.advance(29.9)

    assert REFUSED == refusals.standing("p", 1, USER)
    assert refusals.standing("p", 1, SERVICE) is None
    assert refusals.standing("q", 1, USER) is None

    clock.advance(0.1)

    assert refusals.standing("p", 1, USER) is None
    assert {"p"} == refusals.due()


def test_refusal_slows_down(refusals: Refusals, clock: ManualClock) -> None:
    """Every further refusal is held for the next step of the schedule, and the last one repeats."""
    held = []
    for _ in range(4):
        refusals.remember("p", 1, USER, REFUSED)
        start = clock.monotonic()
        while refusals.standing("p", 1, USER) is not None:
            clock.advance(10)
        held.append(clock.monotonic() - start)

    assert [30, 60, 300, 300] == held


def test_change_of_keys_drops_refusal(refusals: Refusals) -> None:
    """Any change of the policy's row drops what is remembered, its place in the schedule included."""
    refusals.remember("p", 1, USER, REFUSED)

    assert refusals.standing("p", 2, USER) is None
    assert refusals.standing("p", 1, USER) is None


def test_refusal_is_forgotten(refusals: Refusals) -> None:
    """A good answer of a root key drops the refusals of every class."""
    refusals.remember("p", 1, USER, REFUSED)
    refusals.remember("p", 1, SERVICE, REFUSED)
    refusals.forget("p")

    assert (None, None) == (refusals.standing("p", 1, USER), refusals.standing("p", 1, SERVICE))


def test_postpone(refusals: Refusals, clock: ManualClock) -> None:
    """A probe that finds the root keys still silent moves on in the schedule, once it was due."""
    refusals.remember("p", 1, USER, REFUSED)
    refusals.postpone("p", 1)
    clock.advance(30)
    refusals.postpone("p", 1)
    clock.advance(59)

    assert REFUSED == refusals.standing("p", 1, USER)
    assert set() == refusals.due()
