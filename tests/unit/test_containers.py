"""The compose file and the image fit the code: every worker is there, with its own secrets and no others."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from cli.commands import demo
from cli.settings import PREFIX, Settings
from events.amqp.access import ADMINISTRATOR
from schemas.names import OPERATOR, RECOVERY_HANDLER, TIK_CACHE_REFRESHER
from workers.roster import ROSTER

ROOT = Path(__file__).parents[2]
LOGINS = {ADMINISTRATOR, OPERATOR, *ROSTER}
KEEPERS = {TIK_CACHE_REFRESHER, RECOVERY_HANDLER}  # of vaults and audit key
CUSTOMERS, PROVIDER, CUSTOMER = {"vault-1", "vault-2"}, "provider-vault", "customer"
VAULTS = {*CUSTOMERS, PROVIDER}
OWNER = "owner"  # of the database
PORT = 8200
OPENBAO = f"{PREFIX}OPENBAO"


@pytest.fixture(scope="module")
def compose() -> Mapping[str, Any]:
    """Return the compose file, read."""
    read: Mapping[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return read


@pytest.fixture(scope="module")
def ours(compose: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the services that run our image."""
    return {name: service for name, service in compose["services"].items() if service["image"] == "twinlock:dev"}


def mounts(service: Mapping[str, Any]) -> set[str]:
    """Return the names of a service's volumes."""
    return {each.partition(":")[0] for each in service["volumes"]}


@pytest.mark.parametrize("worker", ROSTER)
def test_worker(ours: Mapping[str, Any], worker: str) -> None:
    """Every worker is a service of its own, supervised, with a login that nobody else has."""
    service = ours[worker]

    assert ["worker", "run", worker] == service["command"][:3]
    assert "8080" in service["command"][4]
    assert "/readyz" in service["healthcheck"]["test"][-1]
    assert "unless-stopped" == service["restart"]
    assert f"/secrets/{worker}" == service["environment"]["TWINLOCK_SECRETS"]
    assert f"{worker}:/secrets/{worker}:ro" in service["volumes"]
    assert {worker} == mounts(service) & LOGINS
    assert (worker in KEEPERS) == ("custody" in mounts(service))
    assert (worker != TIK_CACHE_REFRESHER) or "objects" not in mounts(service)


def test_hardened(ours: Mapping[str, Any]) -> None:
    """Nothing of ours may write to its root, gain a right, or take the machine for itself."""
    for name, service in ours.items():
        assert service["read_only"], name
        assert ["ALL"] == service["cap_drop"], name
        assert ["no-new-privileges:true"] == service["security_opt"], name
        assert {"mem_limit", "cpus", "pids_limit"} <= set(service), name
        assert "privileged" not in service, name
        assert "user" not in service, name  # the image's own, which is not root


def test_image() -> None:
    """The image runs as nobody in particular, brings no compiler, and has a folder for every login."""
    text = (ROOT / "Dockerfile").read_text()
    last = text[text.rindex("\nFROM ") :]

    assert "USER twinlock" in last
    assert not re.search(r"apt-get|\bpip install", last)
    assert "&& openssl version" in last  # which deploy/openbao/secrets.sh calls
    assert {*LOGINS, OWNER, CUSTOMER, *VAULTS} == set(re.findall(r"/secrets/([\w-]+)", last))
    assert VAULTS == set(re.findall(r"/secrets/([\w-]+)/data", last))


def test_settings(ours: Mapping[str, Any]) -> None:
    """Every setting in the compose file is one that the program knows."""
    named = {name for service in ours.values() for name in service["environment"] if name.startswith(PREFIX)}
    for name in named - set(of_the_story()):
        first, *rest = name.removeprefix(PREFIX).lower().split("__")
        assert first in Settings.model_fields, name
        section: Any = Settings.model_fields[first].default
        for each in rest:
            assert hasattr(section, each), name
            section = getattr(section, each)


def test_enrolled(ours: Mapping[str, Any]) -> None:
    """The first start makes a login for everybody, and a signing key for every worker and the operator."""
    script = "".join(ours["init"]["command"])
    (names,) = re.findall(r"for name in ([\w ]+); do", script)

    assert LOGINS - {ADMINISTRATOR} == set(names.split())
    for service in ("init", "secrets"):
        assert {f"{login}:/secrets/{login}" for login in LOGINS} <= set(ours[service]["volumes"]), service
    assert "definitions:/secrets:ro" in compose_of("rabbitmq")["volumes"]


def test_roles(ours: Mapping[str, Any]) -> None:
    """Only who makes the tables finds the owner's URL among its secrets, everybody else its own role's."""
    assert not any("TWINLOCK_DATABASE" in service["environment"] for service in ours.values())
    assert {"secrets", "init"} == {name for name, service in ours.items() if ADMINISTRATOR in mounts(service)}
    assert ["secrets"] == [name for name, service in ours.items() if OWNER in mounts(service)]

    (made,) = re.findall(r"twinlock database roles /secrets --host (\w+)", "".join(ours["secrets"]["command"]))
    postgres = compose_of(made)

    assert postgres["environment"]["POSTGRES_DB"] == "twinlock"  # which is what the command names its roles after
    assert "definitions:/secrets:ro" in postgres["volumes"]
    assert "/docker-entrypoint-initdb.d/roles.sql" in postgres["command"][-1]
    assert "POSTGRES_PASSWORD" not in postgres["environment"]  # which everybody may read who may look at containers
    assert f"{OWNER}:/owner:ro" in postgres["volumes"]
    assert {"secrets"} == set(postgres["depends_on"])


@pytest.mark.parametrize("name", sorted(VAULTS))
def test_vault(compose: Mapping[str, Any], name: str) -> None:
    """Every vault keeps its keys, opens itself, speaks TLS, is watched, may do as little as our own image, and holds up
    no worker that starts.
    """
    service = compose["services"][name]
    conf = "provider" if name == PROVIDER else "customer"
    text = (ROOT / f"deploy/openbao/{conf}.hcl").read_text()

    assert service["image"] == "docker.io/openbao/openbao:2"
    assert f"./deploy/openbao/{conf}.hcl:/vault.hcl:ro" in service["volumes"]
    assert {f"{name}:/vault:ro", f"{name}-data:/vault/data"} < set(service["volumes"])
    assert "bao server -config=/vault.hcl" in service["command"][-1]
    assert ["CMD", "bao", "status"] == service["healthcheck"]["test"]
    assert service["restart"] == "unless-stopped"
    assert f"https://{name}:{PORT}" == service["environment"]["BAO_API_ADDR"]
    assert service["read_only"]
    assert ["ALL"] == service["cap_drop"]
    assert service["user"] == "10001:10001"  # the image's own user is another one, and can't read what ours makes
    assert {"mem_limit", "cpus", "pids_limit", "security_opt"} <= set(service)
    for has in ('storage "raft"', 'seal "static"', "tls_cert_file", f'"0.0.0.0:{PORT}"'):
        assert has in text
    assert "tls_disable" not in text
    assert not [worker for worker in ROSTER if name in compose["services"][worker]["depends_on"]]


def test_logins_to_vaults(ours: Mapping[str, Any]) -> None:
    """Only custodians have logins to vaults, each its own; the customer's are the story's, and no worker sees them."""
    script = (ROOT / "deploy/openbao/secrets.sh").read_text()
    for name, service in ours.items():
        assert (name in {*KEEPERS, "init"}) == (OPENBAO in service["environment"]), name
        assert (name in {"cli", "story", "secrets"}) == (CUSTOMER in mounts(service)), name
        assert (name == "secrets") == bool(mounts(service) & {*VAULTS, *(f"{each}-data" for each in VAULTS)}), name
    for keeper in KEEPERS:
        servers = json.loads(ours[keeper]["environment"][OPENBAO])["servers"]

        assert {f"{name}:{PORT}" for name in VAULTS} == set(servers)
        for address, login in servers.items():
            own = {"role_id": keeper, "secret_id_file": address.partition(":")[0], "ca_file": "vaults.pem"}
            assert own == login
        assert f'login "$server" {keeper}' in script


def test_availability_keys(ours: Mapping[str, Any]) -> None:
    """Availability keys are in the provider's vault, in the engine that it has, for everybody who names one."""
    named = {service["environment"].get(f"{PREFIX}CUSTODY__AVAILABILITY_VAULT") for service in ours.values()}

    assert {f"bao+https://{PROVIDER}:{PORT}/availability/keys", None} == named
    assert '"sys/mounts/availability"' in (ROOT / "deploy/openbao/provider.hcl").read_text()


def of_the_story() -> Mapping[str, Any]:
    """Return what the story reads from the environment, which is no setting."""
    app = typer.Typer()
    demo.register(app, lambda arguments, flags: 0)
    command = typer.main.get_command(app)
    return {str(each.envvar): each for each in command.params if each.envvar}


def compose_of(name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"][name]
    return found
