"""What each part of the settings has to fulfil: a fault names the setting, and never its value, which may be secret."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from math import isfinite
from typing import Any, Protocol, TypeVar
from urllib.parse import parse_qs, urlsplit

from twinlock.content.backends import UnsupportedObjects, folder_of, open_cloud
from twinlock.custody.costs import CostSettings
from twinlock.custody.port import MOST_KEPT_SECONDS
from twinlock.custody.settings import CustodySettings
from twinlock.store.engine import UnsupportedDatabase, open_engine
from twinlock.vaults.aws.settings import AwsSettings
from twinlock.vaults.azure.settings import AzureSettings
from twinlock.vaults.canary import PATIENCE
from workers.alert_emitter.webhooks import Webhook
from workers.settings import TracingSettings

EMBEDDED = "embedded:"
T = TypeVar("T")


def broker(value: str) -> str:
    """Return a broker as it may be set, or raise ValueError."""
    if value == EMBEDDED:
        return value
    if not value.startswith(("amqp://", "amqps://")):
        raise ValueError(f"is not a broker, use {EMBEDDED} or amqp://USER:PASSWORD@HOST/VHOST")
    if fault := broker_fault(value):
        raise ValueError(fault)
    return value


def broker_fault(url: str) -> str:
    """Say what is wrong with the URL of a broker, or nothing."""
    try:
        parts = urlsplit(url)
        port_is_wrong = parts.port == 0
    except ValueError:
        return "is not a URL: host or port can't be read"
    if not parts.hostname or port_is_wrong:
        return "has no host, or an impossible port"
    if not parts.username:
        return "has no user: the broker has to know who publishes"
    if "/" in parts.path[1:] or parts.fragment:
        return "has more than one name behind the host: write a / in the virtual host as %2F"
    query = parse_qs(parts.query, keep_blank_values=True)
    if "no_verify_ssl" in query:
        return "may not turn the check of the certificate off: name the authority with ?cafile=FILE"
    if not all(re.fullmatch("[1-9][0-9]{0,2}", seconds) for seconds in query.get("heartbeat", ())):
        return "has a heartbeat that is not 1 to 999 seconds: without one a half-open connection is never found"
    return ""


def database(value: str) -> str:
    """Return a database's URL as it may be set, or raise ValueError."""
    if value:
        try:
            open_engine(value)
        except UnsupportedDatabase as refused:
            raise ValueError(f"{refused.detail}, {refused.hint}") from None
    return value


def objects(value: str) -> str:
    """Return where objects may lie, or raise ValueError."""
    if value and folder_of(value) is None:
        try:
            open_cloud(value)
        except UnsupportedObjects as refused:
            raise ValueError(f"{refused.detail}, {refused.hint}") from None
    return value


def sane(section: T) -> T:
    """Return a section whose numbers are all possible, or raise ValueError."""
    if faults := list(_insane(section)):
        raise ValueError(", ".join(faults))
    return section


def _insane(section: Any) -> list[str]:
    faults = []
    for field in fields(section):
        value = getattr(section, field.name)
        if is_dataclass(value):
            faults += [f"{field.name}.{fault}" for fault in _insane(value)]
        elif isinstance(value, bool):
            continue
        elif isinstance(value, int) and value < 1:
            faults.append(f"{field.name} has to be at least 1")
        elif any(not isfinite(number) or number < 0 for number in _floats(value)):
            faults.append(f"{field.name} has to be 0 or more")
    return faults


def _floats(value: object) -> list[float]:
    found = value if isinstance(value, tuple) else (value,)
    return [number for number in found if isinstance(number, float)]


def listed(section: Any) -> Any:
    """Read lists as the environment holds them: the library does so for whole sections alone."""
    if not isinstance(section, dict):
        return section
    return {name: _list(value) if isinstance(value, str) else value for name, value in section.items()}


def _list(text: str) -> Any:
    try:
        return tuple(json.loads(text)) if text.lstrip().startswith("[") else text
    except ValueError:
        return text


def custody(section: CustodySettings) -> CustodySettings:
    """Return a custodian's section that fits together, or raise ValueError."""
    if faults := [*_custody_faults(section), *_insane(section)]:
        raise ValueError(", ".join(faults))
    return section


def _custody_faults(section: CustodySettings) -> Iterator[str]:
    if section.keep_seconds > MOST_KEPT_SECONDS:
        yield f"keep_seconds has to be {MOST_KEPT_SECONDS:.0f} or less"
    if not section.refusal_schedule:
        yield "refusal_schedule has to hold a number"
    if not 0 < section.hedge.extra_load < 1:
        yield "hedge.extra_load has to be more than 0 and less than 1"
    if section.confirm_interval >= section.epoch_seconds:
        yield "confirm_interval has to be less than epoch_seconds"
    if section.refresh_jitter >= section.refresh_ahead:
        yield "refresh_jitter has to be less than refresh_ahead"
    if not 0 <= section.guards.reserve < 1:
        yield "guards.reserve has to be less than 1"
    if section.hedge.floor > section.hedge.cap:
        yield "hedge.floor has to be hedge.cap or less"


class _Vendor(Protocol):
    @property
    def faults(self) -> list[str]: ...


V = TypeVar("V", bound=_Vendor)


def vendor(section: V) -> V:
    """Return a vendor's section without faults of its own, or raise ValueError."""
    if section.faults:
        raise ValueError(", ".join(section.faults))
    return sane(section)


def webhooks(found: Mapping[str, Webhook]) -> Mapping[str, Webhook]:
    """Return webhooks whose names and numbers are possible, or raise ValueError."""
    faults = []
    for name, hook in found.items():
        if not re.fullmatch("[a-z0-9][a-z0-9_-]{0,30}", name):
            faults.append(f"{name!a} is no name of a webhook, use up to 31 of a to z, 0 to 9, - and _")
        faults += [f"{name} {fault}" for fault in (*hook.faults, *_insane(hook))]
    if faults:
        raise ValueError(", ".join(faults))
    return found


def cost(section: CostSettings) -> CostSettings:
    """Return prices that are possible, or raise ValueError."""
    if faults := [f"prices.{name}.{fault}" for name, price in section.prices.items() for fault in _insane(price)]:
        raise ValueError(", ".join(faults))
    return sane(section)


def _is_collector(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port_is_one = parts.port != 0  # read here: it raises where it is no number, or too great
    except ValueError:
        return False
    plain = url.isprintable() and " " not in url and parts.username is None
    return parts.scheme in ("http", "https") and bool(parts.hostname) and plain and port_is_one


def tracing(section: TracingSettings) -> TracingSettings:
    """Return a section that names a collector, or none, or raise ValueError."""
    if section.endpoint and not _is_collector(section.endpoint):
        raise ValueError("endpoint is not http(s)://HOST:PORT of an OTLP collector")
    if not 0 < section.ratio <= 1:
        raise ValueError("ratio has to be more than 0 and at most 1")
    return section


def canary_faults(custody: CustodySettings, aws: AwsSettings, azure: AzureSettings) -> list[str]:
    """Say where a canary would not be asked in time."""
    # Cut off by the custodian, a refusal would look like a vault's silence, which is evidence of an outage.
    most = custody.vault_deadline - PATIENCE
    asked = (("aws", aws.canary, aws.deadline), ("azure", azure.canary, azure.deadline))
    return [
        f"{name}.deadline has to be {most:g} or less with a canary, or custody.vault_deadline more"
        for name, canary, deadline in asked
        if canary is not None and deadline > most
    ]
