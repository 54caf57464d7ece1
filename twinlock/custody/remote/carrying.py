"""Carry out what a request asks, and put the outcome into a reply: every failure becomes one, too."""

from dataclasses import replace

from twinlock.custody.port import Asker, Custodian, Initiator, OpenedKey
from twinlock.custody.remote.failures import told
from twinlock.custody.remote.messages import (
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
    Request,
    RewrapPolicyKey,
)
from twinlock.keys.secret import SecretKey
from twinlock.store.unit import Cause

Answer = Probed | PolicyKeyMade | KeyOpened | KeysWrapped | Failed
_MOST_DETAIL = 1000


def asker_of(request: Request, deadline: float) -> Asker:
    """Return who asks, as the custodian knows it."""
    initiator = Initiator(request.initiator, request.purpose)
    cause = Cause(request.correlation, request.causation)
    return Asker(initiator, cause, deadline, request.work, request.caller)


async def carry_out(custodian: Custodian, asking: Asking, asker: Asker) -> tuple[Answer, SecretKey | None]:
    """Return the answer, and beside it a container key where one was asked for."""
    try:
        return await _carry_out(custodian, asking, asker)
    except Exception as error:  # noqa: BLE001  # the caller is told of every failure, of an unforeseen one no more
        return told(error), None


async def _carry_out(custodian: Custodian, asking: Asking, asker: Asker) -> tuple[Answer, SecretKey | None]:
    if isinstance(asking, OpenContainerKey):
        opened = await custodian.open_container_key(asking.ref, asker)
        return _opened(opened), opened.key
    if isinstance(asking, MakeContainerKeys):
        made = await custodian.make_container_keys(asking.refs, asking.policy_id, asker)
        return KeysWrapped(keys=tuple(made)), None
    if isinstance(asking, ProbeKey):
        probe = await custodian.probe(asking.uri, asker)
        return Probed(probe=replace(probe, detail=probe.detail[:_MOST_DETAIL])), None
    if isinstance(asking, MakePolicyKey):
        return PolicyKeyMade(made=await custodian.make_policy_key(asking.order, asker)), None
    if isinstance(asking, RewrapPolicyKey):
        return PolicyKeyMade(made=await custodian.rewrap_policy_key(asking.policy_id, asker)), None
    keys = await custodian.rewrap_containers(asking.refs, asking.target_policy_id, asker)
    return KeysWrapped(keys=tuple(keys)), None


def _opened(opened: OpenedKey) -> KeyOpened:
    return KeyOpened(ref=opened.ref, keep_seconds=opened.keep_seconds, by_availability_key=opened.by_availability_key)
