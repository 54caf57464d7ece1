"""The settings: flags win, then the environment (`TWINLOCK_*`), then `twinlock.toml` in the home; read once, here.

`TWINLOCK_SECRETS` names a folder with the files `broker`, `database` and `objects`: what no environment should show.

A nested number is `TWINLOCK_CONTENT__BATCH_ITEMS` in the environment and `batch_items` below `[content]` in the file.
All faults are reported together, each with the setting's name and never with its value: a URL may hold a password.
"""

import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit, urlunsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError
from sqlalchemy.engine import make_url

from cli.home import DATABASE, OBJECTS, SECRETS, SETTINGS
from cli.slips import slips
from twinlock.approvals.settings import ApprovalSettings
from twinlock.content.backends import UnsupportedObjects, folder_of, open_cloud
from twinlock.content.settings import ContentSettings
from twinlock.custody.costs import CostSettings
from twinlock.custody.port import MOST_KEPT_SECONDS
from twinlock.custody.settings import CustodySettings
from twinlock.errors import TwinlockError
from twinlock.store.engine import UnsupportedDatabase, open_engine
from twinlock.vaults.aws.settings import AwsSettings
from twinlock.vaults.azure.settings import AzureSettings
from twinlock.vaults.canary import PATIENCE
from twinlock.vaults.openbao.settings import OpenBaoSettings
from twinlock.vaults.pkcs11.settings import Pkcs11Settings
from workers.alert_emitter.webhooks import Webhook
from workers.settings import TracingSettings, WorkerSettings

EMBEDDED = "embedded:"
PREFIX = "TWINLOCK_"
CUSTOMER = f"{PREFIX}CUSTOMER"  # is no setting: an option of `demo` may stand there
_SECRET = ("broker", "database", "objects")  # they may hold passwords
T = TypeVar("T")


class SettingsFault(TwinlockError):
    """Refuse settings; the message names every fault."""


def _broker(value: str) -> str:
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


def _database(value: str) -> str:
    if value:
        try:
            open_engine(value)
        except UnsupportedDatabase as refused:
            raise ValueError(f"{refused.detail}, {refused.hint}") from None
    return value


def _objects(value: str) -> str:
    if value and folder_of(value) is None:
        try:
            open_cloud(value)
        except UnsupportedObjects as refused:
            raise ValueError(f"{refused.detail}, {refused.hint}") from None
    return value


def _sane(section: T) -> T:
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


def _listed(section: Any) -> Any:
    """Read lists as the environment holds them: the library does so for whole sections alone."""
    if not isinstance(section, dict):
        return section
    return {name: _list(value) if isinstance(value, str) else value for name, value in section.items()}


def _list(text: str) -> Any:
    try:
        return tuple(json.loads(text)) if text.lstrip().startswith("[") else text
    except ValueError:
        return text


def _custody(section: CustodySettings) -> CustodySettings:
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


def _vendor(section: V) -> V:
    if section.faults:
        raise ValueError(", ".join(section.faults))
    return _sane(section)


def _webhooks(found: Mapping[str, Webhook]) -> Mapping[str, Webhook]:
    faults = []
    for name, hook in found.items():
        if not re.fullmatch("[a-z0-9][a-z0-9_-]{0,30}", name):
            faults.append(f"{name!a} is no name of a webhook, use up to 31 of a to z, 0 to 9, - and _")
        faults += [f"{name} {fault}" for fault in (*hook.faults, *_insane(hook))]
    if faults:
        raise ValueError(", ".join(faults))
    return found


def _cost(section: CostSettings) -> CostSettings:
    if faults := [f"prices.{name}.{fault}" for name, price in section.prices.items() for fault in _insane(price)]:
        raise ValueError(", ".join(faults))
    return _sane(section)


def _is_collector(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port_is_one = parts.port != 0  # read here: it raises where it is no number, or too great
    except ValueError:
        return False
    plain = url.isprintable() and " " not in url and parts.username is None
    return parts.scheme in ("http", "https") and bool(parts.hostname) and plain and port_is_one


def _tracing(section: TracingSettings) -> TracingSettings:
    if section.endpoint and not _is_collector(section.endpoint):
        raise ValueError("endpoint is not http(s)://HOST:PORT of an OTLP collector")
    if not 0 < section.ratio <= 1:
        raise ValueError("ratio has to be more than 0 and at most 1")
    return section


class Settings(BaseSettings):
    """Hold every setting, checked."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    home: Path
    secrets: Path | None = None
    broker: Annotated[str, AfterValidator(_broker)] = Field(default=EMBEDDED, repr=False)
    database: Annotated[str, AfterValidator(_database)] = Field(default="", repr=False)
    objects: Annotated[str, AfterValidator(_objects)] = Field(default="", repr=False)
    approvals: Annotated[ApprovalSettings, AfterValidator(_sane)] = ApprovalSettings()
    aws: Annotated[AwsSettings, AfterValidator(_vendor)] = AwsSettings()
    azure: Annotated[AzureSettings, AfterValidator(_vendor)] = AzureSettings()
    content: Annotated[ContentSettings, AfterValidator(_sane)] = ContentSettings()
    cost: Annotated[CostSettings, AfterValidator(_cost)] = CostSettings()
    custody: Annotated[CustodySettings, BeforeValidator(_listed), AfterValidator(_custody)] = CustodySettings()
    logs: Literal["text", "json"] = "text"
    openbao: Annotated[OpenBaoSettings, AfterValidator(_vendor)] = OpenBaoSettings()
    pkcs11: Annotated[Pkcs11Settings, AfterValidator(_vendor)] = Pkcs11Settings()
    tracing: Annotated[TracingSettings, AfterValidator(_tracing)] = TracingSettings()
    webhooks: Annotated[Mapping[str, Webhook], AfterValidator(_webhooks)] = Field(default_factory=dict)
    workers: Annotated[WorkerSettings, AfterValidator(_sane)] = WorkerSettings()

    @property
    def secrets_folder(self) -> Path:
        """Return the folder in which this installation's secret keys lie: the one handed in, or the home's own."""
        return self.secrets or self.home / SECRETS

    def of_worker(self, name: str) -> "Settings":
        """Return the settings of one worker of a fleet: its secrets may lie in a folder of its name below the others.

        Raise `SettingsFault` where the broker's login is another's.
        """
        folder, own = self.secrets_folder / name, self
        if (folder / "broker").is_file():
            files = [each for each in ("broker", "database") if (folder / each).is_file()]
            found = {each: (folder / each).read_text().strip() for each in files}
            own = self.model_copy(update={"secrets": folder, **found})
        own.check_login(name, "each worker has a login of its own name; make them with: twinlock broker definitions")
        return own

    def check_login(self, name: str, hint: str) -> None:
        """Raise `SettingsFault` where the broker's login is another's: what it published would not be believed."""
        login = unquote(urlsplit(self.broker).username or "")
        if login != name:
            raise SettingsFault(f"bad settings: broker: the login {login} is not that of {name}", hint=hint)

    @property
    def is_fleet(self) -> bool:
        """Tell whether workers are processes of their own, behind a broker."""
        return self.broker != EMBEDDED

    @property
    def database_url(self) -> str:
        """Return the SQLAlchemy URL of the database, password included."""
        return self.database or f"sqlite+aiosqlite:///{self.home / DATABASE}"

    @property
    def shown_database(self) -> str:
        """Return the database's URL for people."""
        return make_url(self.database_url).render_as_string(hide_password=True)

    @property
    def shown_broker(self) -> str:
        """Return the broker for people."""
        parts = urlsplit(self.broker)
        if self.broker == EMBEDDED or parts.password is None:
            return self.broker
        user, _, host = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}:***@{host}", query=""))

    @property
    def objects_url(self) -> str:
        """Return the URL of the object store, credentials included."""
        return self.objects or (self.home / OBJECTS).as_uri()

    @property
    def objects_folder(self) -> Path | None:
        """Return the folder that holds the objects, or none where a cloud does."""
        return folder_of(self.objects_url)


def load_settings(home: Path | None = None) -> Settings:
    """Read the settings from everywhere; raise `SettingsFault` with all that is wrong."""
    place = _home(home)
    file, faults = _file(place / SETTINGS)
    secret, more = _secrets()
    faults += more
    settings, more = _validated(place, file, secret)
    faults += more
    sections = {name: field.default for name, field in Settings.model_fields.items()}
    faults += slips(os.environ.keys() - {CUSTOMER}, PREFIX, sections)
    faults += [] if settings is None else _canary_faults(settings)
    if settings is None or faults:
        hint = f"settings come from flags, {PREFIX}* in the environment and {place / SETTINGS}"
        raise SettingsFault("bad settings: " + "; ".join(faults), hint=hint)
    return settings


def _canary_faults(settings: Settings) -> list[str]:
    # Cut off by the custodian, a refusal would look like a vault's silence, which is evidence of an outage.
    most = settings.custody.vault_deadline - PATIENCE
    aws, azure = settings.aws, settings.azure
    asked = (("aws", aws.canary, aws.deadline), ("azure", azure.canary, azure.deadline))
    return [
        f"{name}.deadline has to be {most:g} or less with a canary, or custody.vault_deadline more"
        for name, canary, deadline in asked
        if canary is not None and deadline > most
    ]


def _home(flag: Path | None) -> Path:
    given = flag or os.environ.get(f"{PREFIX}HOME") or None
    if given:
        return Path(given).expanduser().absolute()
    data = Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser()
    return (data if data.is_absolute() else Path("~/.local/share").expanduser()) / "twinlock"


def _file(path: Path) -> tuple[dict[str, Any], list[str]]:
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}, []
    except (OSError, ValueError) as error:
        # The parser's message may quote the line; where it is, is enough.
        what = (error.strerror or "").lower() if isinstance(error, OSError) else "is not valid TOML"
        return {}, [f"{SETTINGS}: {what}"]
    faults = ["home: can't be set in the file that lies in the home"] if "home" in found else []
    return {name: value for name, value in found.items() if name != "home"}, faults


def _secrets() -> tuple[dict[str, Any], list[str]]:
    """Read settings that are secret from a folder with a file for each, as containers are given them."""
    given = os.environ.get(f"{PREFIX}SECRETS")
    if not given:
        return {}, []
    found, faults = {}, []
    for name in _SECRET:
        try:
            found[name] = Path(given, name).read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            faults.append(f"{name}: {Path(given, name)} can't be read: {type(error).__name__}")
    if not found and not faults:
        faults.append(f"{PREFIX}SECRETS: {given} holds none of the files {', '.join(_SECRET)}")
    return found, faults


def _validated(home: Path, file: dict[str, Any], secret: dict[str, Any]) -> tuple[Settings | None, list[str]]:
    class WithFile(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            # What the owner of the home has written wins over what was handed in.
            return init_settings, env_settings, InitSettingsSource(settings_cls, init_kwargs=secret | file)

    try:
        return WithFile(home=home), []
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False)
        return None, [f"{'.'.join(map(str, fault['loc']))}: {_sentence(fault)}" for fault in found]
    except SettingsError as error:
        return None, [_unreadable(error)]


def _sentence(fault: Any) -> str:
    if fault["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return "is not a setting"
    if fault["type"] == "value_error":
        return str(fault["ctx"]["error"])
    message: str = fault["msg"]
    return message[:1].lower() + message[1:]


def _unreadable(error: SettingsError) -> str:
    names = [name for name in Settings.model_fields if f'"{name}"' in str(error)]
    return f"{', '.join(names) or 'environment'}: is not valid JSON"
