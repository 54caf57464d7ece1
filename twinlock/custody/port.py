"""What the custodian offers, exactly: the port that callers see, whether it is a function call or an RPC."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from schemas.identifiers import AvailabilityMode, Slot
from twinlock.custody.audit.log import AuditLog
from twinlock.keys.ports import Destruction, KeyDescription, Outcome, WrappedKey
from twinlock.keys.secret import SecretKey
from twinlock.store.unit import Cause

MOST_KEPT_SECONDS = 60.0  # for which callers keep a container key


class InitiatorClass(StrEnum):
    """Who set an operation off: a person, or the service itself."""

    USER = "user"
    SERVICE = "service"


@dataclass(frozen=True, slots=True)
class Initiator:
    """Name who asks and, for the service, for what purpose."""

    kind: InitiatorClass
    purpose: str = ""

    def __str__(self) -> str:
        return self.kind.value if self.kind is InitiatorClass.USER else f"service:{self.purpose}"


USER = Initiator(InitiatorClass.USER)


def service(purpose: str) -> Initiator:
    """Name the service as initiator, with its purpose (`index`, `move`, `reencrypt`, ...)."""
    return Initiator(InitiatorClass.SERVICE, purpose)


@dataclass(frozen=True, slots=True)
class JobRef:
    """Name the unfinished job for which the service asks."""

    id: str


@dataclass(frozen=True, slots=True)
class RequestRef:
    """Name the unanswered request, handled at once without a job, for which the service asks."""

    source: str
    id: str


@dataclass(frozen=True, slots=True)
class Asker:
    """Say on whose behalf, because of what and until when: `deadline` is in seconds from now.

    `job` names the work that a service call is for; a custodian that is asked from outside verifies it (law 10).
    `caller` is the enrolled name that signed the request; in one process nobody did.
    """

    initiator: Initiator
    cause: Cause
    deadline: float = 10.0
    job: JobRef | RequestRef | None = None
    caller: str = ""


@dataclass(frozen=True, slots=True)
class Probe:
    """Report a live check of a root key: get, wrap, unwrap; `description` is None where `get` failed."""

    uri: str
    outcome: Outcome
    detail: str
    seconds: float
    description: KeyDescription | None


@dataclass(frozen=True, slots=True)
class PolicyKeyOrder:
    """Say for which policy a policy key generation is to be made and which keys wrap it."""

    tenant_id: str
    policy_id: str
    generation: int
    mode: AvailabilityMode
    root_uris: tuple[str, str]


@dataclass(frozen=True, slots=True)
class MadePolicyKey:
    """Hold a policy key's commitment and its wrapped copies; the key itself never left the custodian.

    `roots` describes the versions of the root keys that wrapped (slot a, slot b), to be pinned.
    """

    commitment: bytes
    copies: tuple[tuple[Slot, WrappedKey], ...]
    roots: tuple[KeyDescription, KeyDescription]


@dataclass(frozen=True, slots=True)
class ContainerRef:
    """Name one generation of a container's key."""

    tenant_id: str
    container_id: str
    generation: int


@dataclass(frozen=True, slots=True)
class OpenedKey:
    """Hold a container key in the clear, for at most `keep_seconds`; 0 means for this one call."""

    ref: ContainerRef
    key: SecretKey
    keep_seconds: float
    by_availability_key: bool


@dataclass(frozen=True, slots=True)
class WrappedContainerKey:
    """Hold what is stored of a container key generation."""

    ref: ContainerRef
    policy_id: str
    policy_key_generation: int
    commitment: bytes
    wrapped: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class RootAnswer:
    """Say what one root key of a policy came to just now, asked to unwrap what is stored under it."""

    slot: Slot
    uri: str
    outcome: Outcome
    detail: str = ""


@dataclass(frozen=True, slots=True)
class NewRoot:
    """Name a root key that approvers have signed for: where it is, and which key it has to be."""

    uri: str
    version: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class RecoveryOrder:
    """Say which policy is to come onto which root keys (slot a, slot b), and the request that approvers signed."""

    request: str
    policy_id: str
    keys: tuple[NewRoot, NewRoot]


@dataclass(frozen=True, slots=True)
class Recovered:
    """Hold every live generation under the new root keys, and the next one, under a fresh availability key."""

    live: tuple[tuple[int, MadePolicyKey], ...]
    next: MadePolicyKey


class Custodian(Protocol):
    """Do what only the holder of policy keys can do. A policy key never leaves it.

    Raise `KeyRefused` or `KeyNotYet`; making and refreshing policy keys raise a `VaultFailure` as the vault gave it. A
    stored container key that is gone is `GenerationGone`, one that was damaged or moved a `DecryptionError`.
    """

    async def probe(self, uri: str, asker: Asker) -> Probe:
        """Check a root key live; a failure is an outcome, never an exception."""
        ...

    async def make_policy_key(self, order: PolicyKeyOrder, asker: Asker) -> MadePolicyKey:
        """Make a policy key generation with its three copies, each verified by unwrapping it; store nothing of it.

        In mode `none` there is no availability copy. A repeat finds the availability key that it made before.
        """
        ...

    async def rewrap_policy_key(self, policy_id: str, asker: Asker) -> MadePolicyKey:
        """Wrap the newest policy key generation under the newest versions of its root keys, verified; store nothing.

        Needs a *root* key to unwrap now (law 6) and, in each slot that got a new version, a pinned version of the same
        key that still unwraps (law 1).
        """
        ...

    async def open_container_key(self, ref: ContainerRef, asker: Asker) -> OpenedKey:
        """Open a container key by the decision table; its audit entry is durable before the key is released."""
        ...

    async def make_container_keys(
        self, refs: Sequence[ContainerRef], policy_id: str, asker: Asker
    ) -> Sequence[WrappedContainerKey]:
        """Make keys of new container generations, wrapped by the newest policy key of a policy; store nothing.

        In the order of `refs`; whoever needs one in the clear opens it once it is stored. Needs a policy key that a
        *root* key opened (law 6).
        """
        ...

    async def rewrap_containers(
        self, refs: Sequence[ContainerRef], target_policy_id: str, asker: Asker
    ) -> Sequence[WrappedContainerKey]:
        """Wrap stored container keys under the newest policy key of another policy (or of their own); store nothing.

        Needs a *root* key of every policy they are under now, and of the target, to unwrap at this moment (law 6).
        """
        ...


class Recovering(Protocol):
    """Do with availability keys what `recovery_handler` alone may; nothing of it is stored here.

    Failures of vaults are raised as the vault gave them, and refusals as `KeyRefused`.
    """

    @property
    def audit(self) -> AuditLog:
        """Return the audit log, for what is done with what comes of it."""
        ...

    async def refuse_restored(self) -> None:
        """Raise `KeyRefused` where the database was restored: it may have forgotten that a request was cancelled."""
        ...

    async def probe(self, uri: str, asker: Asker) -> Probe:
        """Check a root key live; a failure is an outcome, never an exception."""
        ...

    async def examine(self, policy_id: str, asker: Asker) -> tuple[RootAnswer, RootAnswer]:
        """Have both root keys of a policy unwrap its newest policy key now, and remember what they said (law 4)."""
        ...

    async def recover(self, order: RecoveryOrder, asker: Asker) -> Recovered:
        """Open a policy's keys by its availability keys and wrap them under new root keys, verified by unwrapping.

        Whoever calls has checked what two approvers signed (law 16); each use is audited before its vault is called.
        """
        ...

    async def destroy_availability_key(self, policy_id: str, uri: str, asker: Asker) -> Destruction:
        """Destroy an availability key for good, audited before its vault is called; a repeat is no error."""
        ...
