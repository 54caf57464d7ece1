"""The names and enumerations that events, commands and tables share."""

import re
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, StringConstraints, ValidationInfo

# No control characters: what is shown on a terminal or written to a log must not be able to steer it.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
PLAIN = r"^[^\x00-\x1f\x7f-\x9f]+$"
MAX_DETAIL = 1000


def _clean(value: object, info: ValidationInfo) -> object:
    # A worker may pass on what a vault said, whatever it is: that must not keep its alert from leaving.
    if info.mode == "python" and isinstance(value, str):
        return _CONTROL.sub(" ", value)[:MAX_DETAIL]
    return value


TenantName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
ApproverName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._@-]{0,62}$")]
PolicyName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,62}$")]
PolicyReference = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=PLAIN)]
MailboxAddress = Annotated[
    str, StringConstraints(pattern=r"^[^\s@\x00-\x1f\x7f-\x9f]{1,64}@[^\s@\x00-\x1f\x7f-\x9f]{1,255}$")
]
# A geo is one word, so that it can be one of a routing key; a site's name has no slash, as TENANT/SITE names it.
Geo = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$")]
SiteName = Annotated[
    str,
    StringConstraints(
        pattern=r"^[^\s/\x00-\x1f\x7f-\x9f]([^/\x00-\x1f\x7f-\x9f]{0,198}[^\s/\x00-\x1f\x7f-\x9f])?$", max_length=200
    ),
]
KeyUri = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9+.-]*:[^\s\x00-\x1f\x7f-\x9f]+$", max_length=500)]
Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:-]{1,100}$")]
Label = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=PLAIN)]
Detail = Annotated[
    str, StringConstraints(max_length=MAX_DETAIL, pattern=PLAIN.replace("+$", "*$")), BeforeValidator(_clean)
]
# Upper bounds, so that no number is too large for a column of the database, or for another language's JSON.
Count = Annotated[int, Field(ge=0, le=2**53 - 1)]
Version = Annotated[int, Field(ge=1, le=2**31 - 1)]
Counts = Annotated[Mapping[Label, Count], AfterValidator(MappingProxyType), PlainSerializer(dict)]
Hash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]  # SHA-256
Signature = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{128}$")]  # Ed25519
# One form alone, as it is part of what is signed.
Moment = Annotated[
    str,
    StringConstraints(
        pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}\+00:00$", max_length=32
    ),
]

PROVIDER = "provider"
SERVICE_POLICY = "service"


class Workload(StrEnum):
    """What kind of container a policy protects."""

    MAILBOX = "mailbox"
    SITE = "site"


# The provider's own policy of each workload; `service` alone, where a workload is not clear, means that of mailboxes.
SERVICE_POLICIES: Mapping[Workload, str] = MappingProxyType(
    {Workload.MAILBOX: SERVICE_POLICY, Workload.SITE: f"{SERVICE_POLICY}-site"}
)


class AvailabilityMode(StrEnum):
    """When the availability key may serve (docs/errors.md)."""

    STANDARD = "standard"
    STRICT = "strict"
    RECOVERY_ONLY = "recovery-only"
    NONE = "none"


class PolicyState(StrEnum):
    """Whether a policy may serve at all."""

    ACTIVE = "active"
    REVOKED = "revoked"
    PURGING = "purging"
    PURGED = "purged"


class ApprovalState(StrEnum):
    """How far a request for signatures is; an approved one is signed by enough, and not carried out yet."""

    OPEN = "open"
    APPROVED = "approved"
    DONE = "done"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class PolicyHealth(StrEnum):
    """How many of a policy's root keys answer."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


class GeoState(StrEnum):
    """How far a tenant's sites of a geo are with their policy."""

    UNREGISTERED = "unregistered"
    REGISTERING = "registering"
    REGISTERED = "registered"
    ROLLING = "rolling"  # from one TIK to another
    RECOVERING = "recovering"


class Slot(StrEnum):
    """Which of a policy's three root keys."""

    A = "a"
    B = "b"
    AVAILABILITY = "availability"


SlotLabels = Annotated[Mapping[Slot, Label], AfterValidator(MappingProxyType), PlainSerializer(dict)]
SlotMoments = Annotated[Mapping[Slot, Moment], AfterValidator(MappingProxyType), PlainSerializer(dict)]
SlotDetails = Annotated[Mapping[Slot, Detail], AfterValidator(MappingProxyType), PlainSerializer(dict)]


class MailboxKind(StrEnum):
    """Whose mailbox it is; a shared one needs no licence."""

    USER = "user"
    MAIL_USER = "mail-user"
    SHARED = "shared"


class Severity(StrEnum):
    """How bad the news is."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class Audience(StrEnum):
    """Who is told."""

    CUSTOMER = "customer"
    ENGINEERING = "engineering"


class AlertState(StrEnum):
    """Whether what an alert is about still goes on."""

    OPEN = "open"
    RESOLVED = "resolved"


class AlertNews(StrEnum):
    """What is new about an alert."""

    OPENED = "opened"
    REPEATED = "repeated"
    RESOLVED = "resolved"


class RequestOutcome(StrEnum):
    """How a request ended."""

    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"
