"""The caller's side: a `Custodian` whose policy keys are in another process, behind a carrier that is not trusted.

The first reply counts that is signed by an enrolled custodian for this very request and opens with its one-time key.
Then what it says has to fit what was asked, and a container key its stored commitment.
"""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import TypeVar

from schemas.names import CUSTODIAN
from twinlock.custody.callers.enrolment import keys_of
from twinlock.custody.callers.purposes import acts_for_people
from twinlock.custody.errors import CustodianSilent, KeyNotYet, NotPermitted, WrongAnswer
from twinlock.custody.port import (
    MOST_KEPT_SECONDS,
    Asker,
    ContainerRef,
    MadePolicyKey,
    OpenedKey,
    PolicyKeyOrder,
    Probe,
    WrappedContainerKey,
)
from twinlock.custody.remote.checking import Checks, check_made, check_order, check_ref
from twinlock.custody.remote.exchange import Answered, Exchange
from twinlock.custody.remote.failures import again
from twinlock.custody.remote.messages import (
    LIFETIME_SECONDS,
    MOST_REFS,
    Asking,
    Failed,
    KeyOpened,
    KeysWrapped,
    MakeContainerKeys,
    MakePolicyKey,
    OpenContainerKey,
    PolicyKeyMade,
    Probed,
    ProbeKey,
    RewrapContainers,
    RewrapPolicyKey,
)
from twinlock.custody.remote.ports import Lane, Requester
from twinlock.custody.wiping import wiped_on_failure
from twinlock.keys.ports import Clock
from twinlock.keys.signing import SigningKey
from twinlock.store.unit import Store

_PAUSE = 0.2  # before a request is sent anew that could not arrive

KindT = TypeVar("KindT")


class RemoteCustodian:
    """Ask the custodian as `name`, whose key is enrolled. Raises what `Custodian` says, and `CustodianSilent`."""

    def __init__(self, store: Store, requester: Requester, name: str, key: SigningKey, clock: Clock) -> None:
        self._store = store
        self._requester = requester
        self._name = name
        self._key = key
        self._clock = clock
        self._checks = Checks(store)
        self._lane = Lane.USER if acts_for_people(name) else Lane.BACKGROUND

    async def probe(self, uri: str, asker: Asker) -> Probe:
        """Have a root key checked live."""
        probe = (await self._ask(ProbeKey(uri=uri), asker, Probed)).probe
        if probe.uri != uri:
            raise WrongAnswer("another key was probed")
        return probe

    async def make_policy_key(self, order: PolicyKeyOrder, asker: Asker) -> MadePolicyKey:
        """Have a policy key generation made."""
        made = (await self._ask(MakePolicyKey(order=order), asker, PolicyKeyMade)).made
        check_order(order, made)
        return made

    async def rewrap_policy_key(self, policy_id: str, asker: Asker) -> MadePolicyKey:
        """Have the newest policy key generation wrapped under the newest versions of its root keys."""
        made = (await self._ask(RewrapPolicyKey(policy_id=policy_id), asker, PolicyKeyMade)).made
        await self._checks.rewrapped_policy_key(policy_id, made)
        return made

    async def open_container_key(self, ref: ContainerRef, asker: Asker) -> OpenedKey:
        """Have a container key opened."""
        answered = await self._answered(OpenContainerKey(ref=ref), asker)
        body, key = _expected(answered, KeyOpened), answered.key
        if key is None:
            raise WrongAnswer("the key is missing")
        with wiped_on_failure(key):
            check_ref(body, ref)
            await self._checks.opened(ref, key)
        keep = min(body.keep_seconds, MOST_KEPT_SECONDS)
        return OpenedKey(body.ref, key, keep, body.by_availability_key)

    async def make_container_keys(
        self, refs: Sequence[ContainerRef], policy_id: str, asker: Asker
    ) -> Sequence[WrappedContainerKey]:
        """Have the keys of new container generations made, in one request for each five hundred."""
        made: list[WrappedContainerKey] = []
        for part in _parts(refs):
            asking = MakeContainerKeys(refs=part, policy_id=policy_id)
            keys = (await self._ask(asking, asker, KeysWrapped)).keys
            check_made(part, policy_id, keys)
            made += keys
        return made

    async def rewrap_containers(
        self, refs: Sequence[ContainerRef], target_policy_id: str, asker: Asker
    ) -> Sequence[WrappedContainerKey]:
        """Have stored container keys wrapped under another policy, in one request for each five hundred."""
        rewrapped: list[WrappedContainerKey] = []
        for part in _parts(refs):
            asking = RewrapContainers(refs=part, target_policy_id=target_policy_id)
            keys = (await self._ask(asking, asker, KeysWrapped)).keys
            await self._checks.rewrapped(part, target_policy_id, keys)
            rewrapped += keys
        return rewrapped

    async def _ask(self, asking: Asking, asker: Asker, kind: type[KindT]) -> KindT:
        return _expected(await self._answered(asking, asker), kind)

    async def _answered(self, asking: Asking, asker: Asker) -> Answered:
        """Ask until the deadline: what was lost, with its carrier or with its custodian, is asked anew.

        So is what can't be served yet: the evidence that it waits for is kept. Repeats are safe: no operation of the
        custodian stores anything.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + asker.deadline
        said: KeyNotYet | None = None
        while True:
            try:
                return await self._once(asking, asker, min(until - loop.time(), LIFETIME_SECONDS))
            except KeyNotYet as not_yet:
                # What the custodian said tells more than its silence in the last moment.
                said = not_yet if said is None or not isinstance(not_yet, CustodianSilent) else said
                if until - loop.time() <= _PAUSE:
                    raise said from None
            await asyncio.sleep(_PAUSE)

    async def _once(self, asking: Asking, asker: Asker, seconds: float) -> Answered:
        async with self._store.read() as reader:
            custodians = await keys_of(reader, CUSTODIAN)
        if not custodians:
            raise NotPermitted("no custodian is enrolled", policy="", hint=f"run: twinlock worker enroll {CUSTODIAN}")
        expires = self._clock.now() + timedelta(seconds=seconds)
        exchange = Exchange.begin(self._name, self._key, custodians, asking, asker, expires, seconds)
        answered = await self._requester.ask(exchange.request, self._lane, seconds, exchange.judge)
        if isinstance(answered.body, Failed):
            raise again(answered.body)
        return answered


def _expected(answered: Answered, kind: type[KindT]) -> KindT:
    """Return the answer, or raise `WrongAnswer` where it answers something else."""
    if not isinstance(answered.body, kind):
        raise WrongAnswer("it answers something else")
    return answered.body


def _parts(refs: Sequence[ContainerRef]) -> Iterator[tuple[ContainerRef, ...]]:
    for start in range(0, len(refs), MOST_REFS):
        yield tuple(refs[start : start + MOST_REFS])
