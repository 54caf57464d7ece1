"""Settings: where they come from, who wins, and that every fault is named without its value."""

from pathlib import Path

import pytest

from cli.commands.init import defaults
from cli.settings import Settings, SettingsFault, load_settings


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TWINLOCK_HOME", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def write(home: Path, text: str) -> None:
    """Write a settings file."""
    (home / "twinlock.toml").write_text(text)


def faults(home: Path) -> str:
    """Return what is said about faulty settings."""
    with pytest.raises(SettingsFault) as caught:
        load_settings(home)
    return caught.value.detail


def test_defaults(tmp_path: Path) -> None:
    """Without any setting everything lies in the home, and the broker is embedded."""
    found = load_settings(tmp_path)

    assert "embedded:" == found.broker
    assert f"sqlite+aiosqlite:///{tmp_path}/twinlock.db" == found.database_url
    assert tmp_path / "objects" == found.objects_folder


def test_home_by_default(tmp_path: Path) -> None:
    """Nobody names a home: it is in the user's data folder."""
    assert tmp_path / "data" / "twinlock" == load_settings().home


def test_relative_data_folder_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative XDG_DATA_HOME is invalid, and ignored as its specification says."""
    monkeypatch.setenv("XDG_DATA_HOME", "data")

    assert Path("~/.local/share/twinlock").expanduser() == load_settings().home


def test_flag_wins_for_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The flag wins over the environment, and the environment over the default."""
    monkeypatch.setenv("TWINLOCK_HOME", str(tmp_path / "env"))

    assert tmp_path / "env" == load_settings().home
    assert tmp_path / "flag" == load_settings(tmp_path / "flag").home


def test_environment_wins_over_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment wins over the file, number by number."""
    write(tmp_path, "[content]\nbatch_items = 5\nbatch_bytes = 6\n[custody.evidence]\nfailures = 7\n")
    monkeypatch.setenv("TWINLOCK_CONTENT__BATCH_ITEMS", "8")
    monkeypatch.setenv("TWINLOCK_CUSTODY__EVIDENCE__OVER_SECONDS", "9")
    found = load_settings(tmp_path)

    assert (8, 6) == (found.content.batch_items, found.content.batch_bytes)
    assert (7, 9.0) == (found.custody.evidence.failures, found.custody.evidence.over_seconds)


def test_faults_of_the_custodian_together(tmp_path: Path) -> None:
    """What no number of the custodian may be is told with what no number at all may be."""
    write(tmp_path, "[custody]\nkeep_seconds = 61.0\nretry_pause = -1.0\n[custody.hedge]\nfloor = 0.3\ncap = 0.2\n")
    found = faults(tmp_path)

    for said in (
        "keep_seconds has to be 60 or less",
        "hedge.floor has to be hedge.cap or less",
        "retry_pause has to be",
    ):
        assert said in found


def test_empty_environment_is_no_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty variable is the same as none."""
    monkeypatch.setenv("TWINLOCK_BROKER", "")

    assert "embedded:" == load_settings(tmp_path).broker


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("TWINLOCK_BROKR", "TWINLOCK_BROKR: is not a setting, did you mean TWINLOCK_BROKER?"),
        ("TWINLOCK_WORKERS_CONCURRENCY", "did you mean TWINLOCK_WORKERS__CONCURRENCY?"),
        ("TWINLOCK_CUSTODY_GUARDS__VAULT_RATE", "did you mean TWINLOCK_CUSTODY__GUARDS__VAULT_RATE?"),
        ("TWINLOCK_FAVOURITE_COLOUR", "TWINLOCK_FAVOURITE_COLOUR: is not a setting"),
    ],
)
def test_slip_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str) -> None:
    """A name with our prefix that is no setting is told, with the nearest one, and never with its value."""
    monkeypatch.setenv(name, "hunter2")
    found = faults(tmp_path)

    assert said in found
    assert "hunter2" not in found


def test_services_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Kubernetes sets for a service that is called as we are is no slip."""
    for name in ("SERVICE_HOST", "SERVICE_PORT_HEALTH", "PORT", "PORT_8080_TCP", "PORT_8080_TCP_ADDR", "A_PORT"):
        monkeypatch.setenv(f"TWINLOCK_{name}", "tcp://10.0.0.1:8080")

    assert "embedded:" == load_settings(tmp_path).broker


def test_option_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `demo` takes from the environment is no slip."""
    monkeypatch.setenv("TWINLOCK_CUSTOMER", "/secrets/customer/vaults.toml")

    assert "embedded:" == load_settings(tmp_path).broker


def test_all_faults_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Faults of file and environment are reported together, each with the setting's name."""
    write(tmp_path, 'colour = "red"\n[content]\nbatch_sheep = 1\n[workers]\nconcurrency = 0\nlease_seconds = -1.0\n')
    monkeypatch.setenv("TWINLOCK_CUSTODY__VAULT_DEADLINE", "soon")
    monkeypatch.setenv("TWINLOCK_BROKER", "rabbit://user:hunter2@host")
    found = faults(tmp_path)

    assert found.startswith("bad settings: ")
    for said in (
        "broker: is not a broker, use embedded: or amqp://",
        "content.batch_sheep: is not a setting",
        "custody.vault_deadline: input should be a valid number",
        "concurrency has to be at least 1, lease_seconds has to be 0 or more",
        "colour: is not a setting",
    ):
        assert said in found


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BROKER", "amqps://:hunter2@host"),
        ("BROKER", "amqp://user:hunter2@"),
        ("BROKER", "amqp://user:hunter2@host:port/"),
        ("BROKER", "amqp://user:hunter2@host:0/"),
        ("BROKER", "amqp://user:hunter2@host/a/b"),
        ("BROKER", "amqps://user:hunter2@host/?no_verify_ssl=1"),
        ("BROKER", "amqp://user:hunter2@host/?heartbeat=0"),
        ("BROKER", "amqp:user:hunter2@host"),
        ("BROKER", "redis://user:hunter2@host"),
        ("DATABASE", "mysql://user:hunter2@host/db"),
        ("DATABASE", "postgresql+asyncpg://user:hunter2@host:port/db"),
        ("DATABASE", "postgresql+asyncpg://user:hunter2@host/db?command_timeout=0"),
        ("DATABASE", "sqlite+aiosqlite://"),
        ("OBJECTS", "s3://user:hunter2@bucket"),
        ("OBJECTS", "folder"),
        ("CONTENT", "{hunter2"),
        ("CUSTODY__KEEP_SECONDS", "61"),
        ("CUSTODY__RETRY_PAUSE", "nan"),
        ("CUSTODY", '{"refusal_schedule": []}'),
        ("CUSTODY__HEDGE__EXTRA_LOAD", "0"),
        ("CUSTODY__HEDGE__EXTRA_LOAD", "1"),
        ("CUSTODY__HEDGE__FLOOR", "0.6"),
        ("CUSTODY__HEDGE__WARM_UP", "0"),
        ("CUSTODY__HEDGE__WINDOW", "0"),
    ],
)
def test_refused_without_its_value(name: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that can't serve is refused under its name, and a password in it is not shown."""
    monkeypatch.setenv(f"TWINLOCK_{name}", value)
    found = faults(tmp_path)

    assert name.split("__")[0].lower() in found
    assert "hunter2" not in found


def test_passwords_are_not_shown(tmp_path: Path) -> None:
    """Neither the settings' repr nor the database's URL for people holds a password."""
    url = f"sqlite+aiosqlite://user:hunter2@/{tmp_path}/x.db"
    found = Settings.model_construct(home=tmp_path, database=url)

    assert "hunter2" not in repr(found) + found.shown_database


def test_broken_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is no TOML is a fault beside the others."""
    write(tmp_path, "broker = ")
    monkeypatch.setenv("TWINLOCK_OBJECTS", "here")

    assert (
        "bad settings: twinlock.toml: is not valid TOML; objects: is not an object store, "
        "use file:///PATH, s3://BUCKET/PREFIX, az://CONTAINER/PREFIX or gs://BUCKET/PREFIX" == (faults(tmp_path))
    )


def test_file_may_not_move_the_home(tmp_path: Path) -> None:
    """The file in the home can't say that the home is elsewhere."""
    write(tmp_path, 'home = "/elsewhere"\n')

    assert "home: can't be set in the file that lies in the home" in faults(tmp_path)


def test_objects_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects may lie in another folder."""
    monkeypatch.setenv("TWINLOCK_OBJECTS", "file:///srv/twin%20lock")

    assert Path("/srv/twin lock") == load_settings(tmp_path).objects_folder


def test_objects_in_a_cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket's URL with its credentials comes from the folder of secrets, and no repr shows it."""
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    url = "s3://bucket/prefix?region=eu&access_key_id=us&secret_access_key=hunter2"
    (secrets / "objects").write_text(url + "\n")
    monkeypatch.setenv("TWINLOCK_SECRETS", str(secrets))
    found = load_settings(tmp_path)

    assert (url, None) == (found.objects_url, found.objects_folder)
    assert "hunter2" not in repr(found)


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("s3://", "is not an object store"),
        ("ftp://host/x", "is not an object store"),
        ("s3://me:hunter2@bucket", "is not an object store"),
        ("file://host/x", "is not an object store"),
        ("s3://bucket?colour=red", "has unknown settings: colour"),
        ("s3://bucket?allow_http=yes", "has an allow_http that is neither true nor false"),
        ("s3://bucket?skip_signature=hunter2", "lacks a setting, or has one that can't be read, among skip_signature"),
        ("az://container?account_name=us&account_key=hunter2", "can't be read, among account_name, account_key"),
        ("gs://bucket?service_account_key=hunter2", "can't be read, among service_account_key"),
    ],
)
def test_bad_object_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, fault: str) -> None:
    """Whatever can't be an object store is refused by the name of what is wrong, never with its value."""
    monkeypatch.setenv("TWINLOCK_OBJECTS", url)
    found = faults(tmp_path)

    assert fault in found
    assert "hunter2" not in found


def test_written_defaults_are_the_defaults(tmp_path: Path) -> None:
    """The file that `init` writes is all comments, and uncommented it changes nothing."""
    before = load_settings(tmp_path)
    lines = defaults().splitlines()
    write(tmp_path, "\n".join(line.removeprefix("# ") for line in lines[1:]))
    after = load_settings(tmp_path)

    assert [] == [line for line in lines if line and not line.startswith("# ")]
    assert before.model_dump() == after.model_dump()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("embedded:", "embedded:"),
        ("amqp://user:hunter2@host", "amqp://user:***@host"),
        ("amqps://user:hunter2@host:5671/v%2Fh?cafile=/hunter2", "amqps://user:***@host:5671/v%2Fh"),
        ("amqp://user@host/vhost", "amqp://user@host/vhost"),
    ],
)
def test_broker_is_shown_without_its_password(
    url: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker's URL is taken as it is, and shown to people without its password."""
    monkeypatch.setenv("TWINLOCK_BROKER", url)
    found = load_settings(tmp_path)

    assert url == found.broker
    assert shown == found.shown_broker
    assert "hunter2" not in repr(found)


def test_webhooks(tmp_path: Path) -> None:
    """Webhooks are named in the file; every fault of one is told with its name, and no URL is ever shown."""
    write(
        tmp_path, '[webhooks.pager]\nurl = "https://pager.example/T0KEN"\nsecret_file = "pager"\ntenants = ["acme"]\n'
    )
    found = load_settings(tmp_path)

    assert ("acme",) == found.webhooks["pager"].tenants
    assert "T0KEN" not in repr(found)

    write(
        tmp_path,
        '[webhooks]\nplain = {url = "http://pager.example/T0KEN", secret_file = "x", deadline = -1.0}\n'
        'Odd = {url = "https://me:T0KEN@pager.example", secret_file = "x"}\n'
        'none = {url = "T0KEN", secret_file = "x"}\n',
    )
    told = faults(tmp_path)

    assert "plain has a url without TLS" in told
    assert "plain deadline has to be 0 or more" in told
    assert "'Odd' is no name of a webhook" in told
    assert "Odd has a url with a user" in told
    assert "none has a url that is not https://HOST/PATH" in told
    assert "T0KEN" not in told


def test_azure(tmp_path: Path) -> None:
    """A directory has one login and an id, and what is reached by another name is a host; all faults are told."""
    directory = "0f8fad5b-d9cb-469f-a165-70867728950e"
    write(tmp_path, f'[azure.directories.{directory}]\nsecret_file = "s"\nmanaged_identity = true\n')
    two = faults(tmp_path)
    write(tmp_path, f'[azure.directories.{directory}]\nsecret_file = "s"\n[azure.directories.contoso]\n')
    more = faults(tmp_path)
    write(tmp_path, '[azure.vaults."https://keys.example"]\n[azure.vaults.host]\nauthority = "https://login"\n')
    hosts = faults(tmp_path)

    assert f"azure: directories: {directory} needs one of secret_file," in two
    assert f"directories: {directory} has no client_id" in more
    assert "directories: 'contoso' is not the id of a directory" in more
    assert "vaults: 'https://keys.example' is not a host" in hosts
    assert "vaults: host has no host as authority" in hosts


@pytest.mark.parametrize(
    "url",
    ["nonsense", "http://", "ftp://x:1", "http://a:b@x", "http://x:notaport", "http://x:0", "http://x y", "http://[x"],
)
def test_bad_collector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """What can't be a collector's address is refused before anything starts, and is not shown."""
    monkeypatch.setenv("TWINLOCK_TRACING__ENDPOINT", url)

    assert "tracing: endpoint is not http(s)://HOST:PORT of an OTLP collector" in faults(tmp_path)
    monkeypatch.setenv("TWINLOCK_TRACING__ENDPOINT", "https://collector.example:4318")
    assert "https://collector.example:4318" == load_settings(tmp_path).tracing.endpoint
