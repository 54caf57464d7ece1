"""Check names as they are typed, before anything is opened; what is wrong is exit code 2."""

from datetime import UTC, date, datetime, time

from pydantic import TypeAdapter, ValidationError

from cli.failures import UsageFault
from schemas.identifiers import (
    ApproverName,
    Geo,
    MailboxAddress,
    PolicyName,
    PolicyReference,
    SiteName,
    TenantName,
    Workload,
)
from twinlock.custody.costs import Month
from twinlock.custody.port import USER, Initiator, service

_TENANT: TypeAdapter[str] = TypeAdapter(TenantName)
_APPROVER: TypeAdapter[str] = TypeAdapter(ApproverName)
_POLICY: TypeAdapter[str] = TypeAdapter(PolicyName)
_REFERENCE: TypeAdapter[str] = TypeAdapter(PolicyReference)
_ADDRESS: TypeAdapter[str] = TypeAdapter(MailboxAddress)
_GEO: TypeAdapter[str] = TypeAdapter(Geo)
_SITE: TypeAdapter[str] = TypeAdapter(SiteName)


def tenant_name(text: str) -> str:
    """Return a tenant's name."""
    hint = "up to 63 of a-z, 0-9, dot, dash and underscore; it begins with a letter or a digit"
    return _checked(_TENANT, text, "the name of a tenant", hint)


def approver_name(text: str) -> str:
    """Return an approver's name."""
    hint = "up to 63 letters, digits, spaces, dots, dashes, underscores and @; it begins with a letter or a digit"
    return _checked(_APPROVER, text, "the name of an approver", hint)


def policy_name(text: str) -> str:
    """Return a policy's name, without its tenant."""
    hint = "up to 63 letters, digits, spaces, dots, dashes and underscores; it begins with a letter or a digit"
    return _checked(_POLICY, text, "the name of a policy", hint)


def policy_reference(text: str) -> str:
    """Return what names a policy: its id, TENANT/NAME, or `service`."""
    return _checked(_REFERENCE, text, "the name of a policy", "name it by its id or as TENANT/NAME")


def address(text: str) -> str:
    """Return a mailbox's address."""
    return _checked(_ADDRESS, text, "a mailbox address", "an address looks like ann@acme.example")


def expiry(text: str) -> datetime:
    """Return a moment: a date alone means its first moment in UTC."""
    try:
        if len(text) == len("2030-01-01"):
            return datetime.combine(date.fromisoformat(text), time(), UTC)
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageFault(f"{text!a} is not a date", hint="a date looks like 2030-01-31") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def month(text: str) -> Month:
    """Return a month."""
    try:
        if len(text) != len("2030-01"):
            raise ValueError(text)
        return Month(date.fromisoformat(f"{text}-01"))
    except ValueError:
        raise UsageFault(f"{text[:100]!a} is not a month", hint="a month looks like 2030-01") from None


def geo(text: str) -> str:
    """Return the name of a geo."""
    return _checked(_GEO, text, "the name of a geo", "up to 32 letters, digits, dashes and underscores")


def site_name(text: str) -> str:
    """Return a site's name, without its tenant."""
    return _checked(_SITE, text, "the name of a site", "up to 200 characters, without a slash, no space at either end")


def site(text: str) -> str:
    """Return what names a site: TENANT/SITE, or the name alone."""
    tenant, slash, name = text.partition("/")
    if slash:
        tenant_name(tenant)
    site_name(name if slash else text)
    return text


def initiator(text: str) -> Initiator:
    """Return on whose behalf content is read: `user` or `service:PURPOSE`."""
    kind, colon, purpose = text.partition(":")
    if text == "user":
        return USER
    if kind == "service" and colon and purpose.replace("-", "").isalnum() and len(purpose) <= 40:
        return service(purpose)
    raise UsageFault(f"{text[:100]!a} is not who may read", hint="use --as user, or --as service:PURPOSE")


def geo_of(workload: Workload, given: str | None) -> None:
    """Refuse a policy for mailboxes with a geo, and one for sites without."""
    if given is not None:
        geo(given)
    if workload is Workload.SITE and given is None:
        raise UsageFault("a policy for sites is for those of one geo", hint="name it: --geo GEO")
    if workload is Workload.MAILBOX and given is not None:
        raise UsageFault("mailboxes have no geo", hint="leave out --geo, or say --workload site")


def _checked(adapter: TypeAdapter[str], text: str, what: str, hint: str) -> str:
    try:
        return adapter.validate_python(text)
    except ValidationError:
        raise UsageFault(f"{text[:100]!a} is not {what}", hint=hint) from None
