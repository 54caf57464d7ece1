"""Requests and replies as they travel: JSON, closed and bounded. No key material is in them; keys travel beside.

Unknown fields, wrong types and over-long texts are refused. Bytes are base64 with the URL-safe alphabet.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from twinlock.custody.callers.purposes import Operation
from twinlock.custody.port import (
    ContainerRef,
    InitiatorClass,
    JobRef,
    MadePolicyKey,
    PolicyKeyOrder,
    Probe,
    RequestRef,
    WrappedContainerKey,
)

MOST_REFS = 500  # containers in one request; more of them are asked for in several
MOST_TEXT = 2000
LIFETIME_SECONDS = 30.0  # no request is good for longer; who waits longer asks anew

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,39}$")]
Refs = Annotated[tuple[ContainerRef, ...], Field(min_length=1, max_length=MOST_REFS)]


class Message(BaseModel):
    """Be strict: what one side does not know, the other side does not say."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        ser_json_bytes="base64",
        val_json_bytes="base64",
        str_max_length=MOST_TEXT,
        allow_inf_nan=False,
        hide_input_in_errors=True,
    )


class ProbeKey(Message):
    """Ask to check a root key live."""

    name: Literal[Operation.PROBE] = Operation.PROBE
    uri: str


class MakePolicyKey(Message):
    """Ask for a policy key generation."""

    name: Literal[Operation.MAKE_POLICY_KEY] = Operation.MAKE_POLICY_KEY
    order: PolicyKeyOrder


class RewrapPolicyKey(Message):
    """Ask for a policy key under the newest versions of its root keys."""

    name: Literal[Operation.REWRAP_POLICY_KEY] = Operation.REWRAP_POLICY_KEY
    policy_id: str


class OpenContainerKey(Message):
    """Ask for a container key."""

    name: Literal[Operation.OPEN_CONTAINER_KEY] = Operation.OPEN_CONTAINER_KEY
    ref: ContainerRef


class MakeContainerKeys(Message):
    """Ask for the keys of new container generations."""

    name: Literal[Operation.MAKE_CONTAINER_KEYS] = Operation.MAKE_CONTAINER_KEYS
    refs: Refs
    policy_id: str


class RewrapContainers(Message):
    """Ask for container keys wrapped under another policy."""

    name: Literal[Operation.REWRAP_CONTAINERS] = Operation.REWRAP_CONTAINERS
    refs: Refs
    target_policy_id: str


Asking = Annotated[
    ProbeKey | MakePolicyKey | RewrapPolicyKey | OpenContainerKey | MakeContainerKeys | RewrapContainers,
    Field(discriminator="name"),
]


class Request(Message):
    """Say everything that a custodian decides by: all of it is under the caller's signature."""

    caller: Name
    id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    expires: Annotated[int, Field(ge=0, le=2**53)]  # milliseconds since 1970, on the caller's clock
    deadline: Annotated[int, Field(ge=1, le=int(1000 * LIFETIME_SECONDS))]  # milliseconds
    reply_key: Annotated[bytes, Field(min_length=32, max_length=32)]
    initiator: InitiatorClass
    purpose: Annotated[str, Field(max_length=40)]
    work: JobRef | RequestRef | None
    correlation: Annotated[str, Field(min_length=1, max_length=100)]
    causation: Annotated[str, Field(max_length=100)] | None
    operation: Asking


class Probed(Message):
    """Answer a probe."""

    answer: Literal["probed"] = "probed"
    probe: Probe


class PolicyKeyMade(Message):
    """Answer with a policy key's commitment and copies, made or rewrapped."""

    answer: Literal["policy-key"] = "policy-key"
    made: MadePolicyKey


class KeyOpened(Message):
    """Answer with a container key, which is not in here."""

    answer: Literal["container-key"] = "container-key"
    ref: ContainerRef
    keep_seconds: Annotated[float, Field(ge=0)]
    by_availability_key: bool


class KeysWrapped(Message):
    """Answer with container keys as they are to be stored, made or rewrapped."""

    answer: Literal["wrapped-keys"] = "wrapped-keys"
    keys: Annotated[tuple[WrappedContainerKey, ...], Field(max_length=MOST_REFS)]


class Failed(Message):
    """Answer with a failure, to be raised again by the caller; the fields that a kind has no use for are empty."""

    answer: Literal["failed"] = "failed"
    kind: str
    detail: str = ""
    hint: str = ""
    policy: str = ""
    uri: str = ""
    raw: str = ""
    request_id: str = ""
    classifier: str = ""
    exact: bool = False
    counts: bool = False


class Reply(Message):
    """Hold one answer."""

    body: Annotated[Probed | PolicyKeyMade | KeyOpened | KeysWrapped | Failed, Field(discriminator="answer")]
