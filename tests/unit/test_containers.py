"""The compose file and the image fit the code: every worker is there, with its own secrets and no others."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.settings import PREFIX, Settings
from events.amqp.access import ADMINISTRATOR
from schemas.names import OPERATOR, RECOVERY_HANDLER, TIK_CACHE_REFRESHER
from workers.roster import ROSTER

ROOT = Path(__file__).parents[2]
LOGINS = {ADMINISTRATOR, OPERATOR, *ROSTER}
KEEPERS = {TIK_CACHE_REFRESHER, RECOVERY_HANDLER}  # of vaults and audit key


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
    assert LOGINS == set(re.findall(r"/secrets/(\w+)", last))


def test_settings(ours: Mapping[str, Any]) -> None:
    """Every setting in the compose file is one that the program knows."""
    named = {name for service in ours.values() for name in service["environment"] if name.startswith(PREFIX)}
    for name in named:
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
    """Only who makes the tables has the owner's URL; everybody else finds its own role's among its secrets."""
    assert ["init"] == [name for name, service in ours.items() if "TWINLOCK_DATABASE" in service["environment"]]

    (made,) = re.findall(r"twinlock database roles /secrets --host (\w+)", "".join(ours["secrets"]["command"]))
    postgres = compose_of(made)

    assert postgres["environment"]["POSTGRES_DB"] == "twinlock"  # which is what the command names its roles after
    assert "definitions:/secrets:ro" in postgres["volumes"]
    assert "/docker-entrypoint-initdb.d/roles.sql" in postgres["command"][-1]
    assert {"secrets"} == set(postgres["depends_on"])


def compose_of(name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"][name]
    return found
