"""Webhooks: who is posted which alerts, as the settings name them. A secret is never among them, only its file."""

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from events.quiet import OUTSIDE
from schemas.facts import AlertChanged
from schemas.identifiers import Audience, Severity
from twinlock.errors import TwinlockError

_ORDER = tuple(Severity)  # from the least on
_MOST_SECRETS, _LEAST_SECRET_BYTES = 4, 16


class BadSecret(TwinlockError):
    """Say that a webhook's secret can't be used, and never what it is."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """Hold one subscriber's settings; times are in seconds. No `tenants` are all of them, no `audience` is either.

    `ca_file` holds the certificates to trust in place of the system's. Files without a full path are in the folder of
    the secrets.
    """

    url: str = field(repr=False)  # some servers take a path for a password
    secret_file: Path
    audience: Audience | None = None
    tenants: tuple[str, ...] = ()
    severity: Severity = Severity.INFO
    allow_http: bool = False  # what is posted can be read, though not changed, on the way
    deadline: float = 10.0
    ca_file: Path | None = None

    @property
    def faults(self) -> list[str]:
        """Say what keeps this from being a webhook."""
        try:
            parts = urlsplit(self.url)
            port_is_wrong = parts.port == 0
        except ValueError:
            return ["has a url that is none: host or port can't be read"]
        if parts.scheme not in ("https", "http") or not parts.hostname or port_is_wrong:
            return ["has a url that is not https://HOST/PATH"]
        if parts.scheme == "http" and not self.allow_http:
            return ["has a url without TLS, use https or set allow_http"]
        if parts.username or parts.password or parts.fragment:
            return ["has a url with a user, a password or a fragment, leave them out"]
        return []

    @property
    def host(self) -> str:
        """Return where it goes, as may be shown."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    def wants(self, alert: AlertChanged) -> bool:
        """Tell whether an alert is for this subscriber."""
        whose = not self.tenants or alert.tenant in self.tenants
        return (
            whose
            and self.audience in (None, alert.audience)
            and _ORDER.index(alert.severity) >= _ORDER.index(self.severity)
        )

    def secrets(self, folder: Path) -> list[bytes]:
        """Read the secrets, one a line, while one takes another's place; a file without a full path is in `folder`."""
        path = folder / self.secret_file
        try:
            found = [line.strip() for line in path.read_bytes().splitlines() if line.strip()]
        except OSError as error:
            raise BadSecret(f"{path} can't be read: {type(error).__name__}") from None
        if not 0 < len(found) <= _MOST_SECRETS or min(map(len, found)) < _LEAST_SECRET_BYTES:
            raise BadSecret(f"{path} has to hold a secret of {_LEAST_SECRET_BYTES} bytes or more in a line")
        return found


def consumer(name: str) -> str:
    """Name a webhook among those that take deliveries."""
    return f"{OUTSIDE}{name}"
