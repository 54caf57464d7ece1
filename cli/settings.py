"""The settings: flags win, then the environment (`TWINLOCK_*`), then `twinlock.toml` in the home; read once, here.

`TWINLOCK_SECRETS` names a folder with the files `broker`, `database` and `objects`: what no environment should show.

A nested number is `TWINLOCK_CONTENT__BATCH_ITEMS` in the environment and `batch_items` below `[content]` in the file.
All faults are reported together, each with the setting's name and never with its value: a URL may hold a password.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit, urlunsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError
from sqlalchemy.engine import make_url

from cli import setting_rules as rules
from cli.home import DATABASE, OBJECTS, SECRETS, SETTINGS
from cli.setting_rules import EMBEDDED
from cli.slips import slips
from twinlock.approvals.settings import ApprovalSettings
from twinlock.content.backends import folder_of
from twinlock.content.settings import ContentSettings
from twinlock.custody.costs import CostSettings
from twinlock.custody.settings import CustodySettings
from twinlock.errors import TwinlockError
from twinlock.vaults.aws.settings import AwsSettings
from twinlock.vaults.azure.settings import AzureSettings
from twinlock.vaults.openbao.settings import OpenBaoSettings
from twinlock.vaults.pkcs11.settings import Pkcs11Settings
from workers.alert_emitter.webhooks import Webhook
from workers.settings import TracingSettings, WorkerSettings

PREFIX = "TWINLOCK_"
CUSTOMER = f"{PREFIX}CUSTOMER"  # is no setting: an option of `demo` may stand there
_SECRET = ("broker", "database", "objects")  # they may hold passwords


class SettingsFault(TwinlockError):
    """Refuse settings; the message names every fault."""


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
    broker: Annotated[str, AfterValidator(rules.broker)] = Field(default=EMBEDDED, repr=False)
    database: Annotated[str, AfterValidator(rules.database)] = Field(default="", repr=False)
    objects: Annotated[str, AfterValidator(rules.objects)] = Field(default="", repr=False)
    approvals: Annotated[ApprovalSettings, AfterValidator(rules.sane)] = ApprovalSettings()
    aws: Annotated[AwsSettings, AfterValidator(rules.vendor)] = AwsSettings()
    azure: Annotated[AzureSettings, AfterValidator(rules.vendor)] = AzureSettings()
    content: Annotated[ContentSettings, AfterValidator(rules.sane)] = ContentSettings()
    cost: Annotated[CostSettings, AfterValidator(rules.cost)] = CostSettings()
    custody: Annotated[CustodySettings, BeforeValidator(rules.listed), AfterValidator(rules.custody)] = (
        CustodySettings()
    )
    logs: Literal["text", "json"] = "text"
    openbao: Annotated[OpenBaoSettings, AfterValidator(rules.vendor)] = OpenBaoSettings()
    pkcs11: Annotated[Pkcs11Settings, AfterValidator(rules.vendor)] = Pkcs11Settings()
    tracing: Annotated[TracingSettings, AfterValidator(rules.tracing)] = TracingSettings()
    webhooks: Annotated[Mapping[str, Webhook], AfterValidator(rules.webhooks)] = Field(default_factory=dict)
    workers: Annotated[WorkerSettings, AfterValidator(rules.sane)] = WorkerSettings()

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
    faults += [] if settings is None else rules.canary_faults(settings.custody, settings.aws, settings.azure)
    if settings is None or faults:
        hint = f"settings come from flags, {PREFIX}* in the environment and {place / SETTINGS}"
        raise SettingsFault("bad settings: " + "; ".join(faults), hint=hint)
    return settings


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
