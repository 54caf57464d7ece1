"""Tell by a key of our own whose act a refusal was.

A vault that says "you may not" leaves open whether the customer took our permission away or our identity is broken for
everybody. So our own key at the same vendor is opened with the same identity: it is refused too, and the fault is
ours; only the customer's is refused, and the customer acted.
"""

import asyncio
import os

from twinlock.keys.ports import (
    Clock,
    Corrupt,
    Denied,
    KeyDescription,
    Misconfigured,
    Unavailable,
    VaultFailure,
    WrappedKey,
)
from twinlock.keys.root_payload import PAYLOAD_BYTES
from twinlock.vaults.directory import Adapter

CLASSIFIER = "canary/1"
CONTEXT = b"twinlock canary"
# For how many seconds what it said is believed: a thousand tenants' refusals ask it once. What is well may end at once.
KEPT_GOOD, KEPT_BAD = 2.0, 30.0
# What stays of the custodian's deadline when an adapter has used its own; to be cut off there would look like silence.
PATIENCE = 0.75


class Canary:
    """Ask our own key, now and then, for as long as something is refused elsewhere."""

    def __init__(self, vault: Adapter, uri: str, clock: Clock) -> None:
        self._vault = vault
        self._uri = uri
        self._clock = clock
        self._lock = asyncio.Lock()
        self._payload = os.urandom(PAYLOAD_BYTES)  # of no use to anybody: it protects nothing
        self._wrapped: WrappedKey | None = None
        self._said: tuple[float, VaultFailure | None] | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._uri})"

    async def judge(self, failure: VaultFailure) -> VaultFailure:
        """Return the failure as it stands beside what our own key came to; silence changes nothing.

        Less than a denial would let the availability key open as soon as the customer's vaults are cut off (law 4).
        """
        try:
            async with asyncio.timeout(PATIENCE), self._lock:
                own = await self._own()
        except TimeoutError:
            return failure
        if own is None:
            return _as(Denied, failure, "while our own key there opens")
        if isinstance(own, Unavailable):
            return failure
        return _as(Misconfigured, failure, f"and neither does our own key there open: {own.detail}")

    async def _own(self) -> VaultFailure | None:
        now = self._clock.monotonic()
        if self._said is None or now > self._said[0]:
            own = await self._ask()
            self._said = now + (KEPT_GOOD if own is None else KEPT_BAD), own
        return self._said[1]

    async def _ask(self) -> VaultFailure | None:
        try:
            if self._wrapped is None:
                self._wrapped = await self._vault.wrap(self._uri, self._payload, CONTEXT)
            opened = await self._vault.unwrap(self._wrapped, CONTEXT)
        except VaultFailure as failure:
            self._wrapped = None  # our key may be another one by now
            return failure
        if opened != self._payload:
            self._wrapped = None
            return Corrupt("it gives other bytes than were wrapped", uri=self._uri, classifier=CLASSIFIER)
        return None


class WithCanary:
    """Be an adapter whose refusals a canary judges; everything else is the adapter's own."""

    def __init__(self, vault: Adapter, canary: Canary) -> None:
        self._vault = vault
        self._canary = canary

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._vault!r})"

    def locate(self, uri: str) -> object:
        """Split a URI into its parts, or raise BadKeyUri."""
        return self._vault.locate(uri)

    async def describe(self, uri: str, version: str | None = None) -> KeyDescription:
        """Describe one version of a key."""
        return await self._vault.describe(uri, version)

    async def wrap(self, uri: str, payload: bytes, context: bytes) -> WrappedKey:
        """Wrap 64 bytes under the newest version of a key."""
        return await self._vault.wrap(uri, payload, context)

    async def unwrap(self, wrapped: WrappedKey, context: bytes) -> bytes:
        """Return the 64 bytes; where we may not, say whose act that is."""
        try:
            return await self._vault.unwrap(wrapped, context)
        except VaultFailure as failure:
            if not failure.of_permission:
                raise
            refused = failure
        raise await self._canary.judge(refused)


def _as(kind: type[VaultFailure], failure: VaultFailure, beside: str) -> VaultFailure:
    return kind(
        f"{failure.detail}, {beside}",
        uri=failure.uri,
        raw=failure.raw,
        request_id=failure.request_id,
        classifier=failure.classifier,
        exact=failure.exact,
        of_permission=True,
    )
