"""The story on a fleet whose vaults are the OpenBao servers of docker-compose.yml, as that file starts them."""

import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.demo import story
from cli.main import run
from schemas.names import (
    ALERT_EMITTER,
    DEP_ASSIGNER,
    MAILBOX_REENCRYPTOR,
    OPERATOR,
    RECOVERY_HANDLER,
    SITE_REENCRYPTOR,
    TIK_CACHE_REFRESHER,
)
from tests.fleet.installation import Fleet
from tests.servers.compose_vaults import CUSTOMERS, PROVIDER, ComposeVaults, Refused
from tests.servers.postgres import Postgres
from tests.servers.rabbitmq import RabbitNode, started

COPIES, LARGE_BYTES = 2, 2 * 1024 * 1024
# What the customer does in its vaults, and what that needs; the other scenes never ask where a key is.
TITLES = {
    "set up",
    "protect before mail arrives",
    "take over existing mail",
    "rotate the keys",
    "revoke, and heal",
    "a site under two keys",
    "a vault slows down and dies",
}
# As docker-compose.yml has it: the story waits until a key ends and until it is back.
OFTEN = {"TWINLOCK_CUSTODY__PROBE_INTERVAL": "1", "TWINLOCK_CUSTODY__REFUSAL_SCHEDULE": "[1]"}


@pytest.fixture(scope="module")
def vaults(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposeVaults]:
    """Start the three servers."""
    servers = ComposeVaults(tmp_path_factory.mktemp("vaults"))
    try:
        servers.start()
        yield servers
    finally:
        servers.close()


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitNode]:
    """Start a node for this fleet: the other one's begins anew after a kill, for whoever comes next."""
    with started(tmp_path_factory.mktemp("rabbit-of-vaults")) as node:
        yield node


@pytest.fixture(scope="module")
def staffed(
    vaults: ComposeVaults, broker: RabbitNode, cluster: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """Make a fleet of which the custodians alone have logins to the vaults."""
    fleet = Fleet(tmp_path_factory.mktemp("fleet-of-vaults"), broker, cluster, "vaults")
    try:
        for worker in (DEP_ASSIGNER, MAILBOX_REENCRYPTOR, SITE_REENCRYPTOR, ALERT_EMITTER):
            fleet.start(worker)
        for worker in (TIK_CACHE_REFRESHER, RECOVERY_HANDLER):
            fleet.start(worker, **OFTEN, **vaults.settings(worker, fleet.secrets(worker)))
        fleet.all_ready()
        yield fleet
        assert [] == fleet.denied()
    finally:
        fleet.close()


def told(fleet: Fleet, customer: Path) -> tuple[int, str, str]:
    """Tell the story's part of the vaults as the operator."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(story, "SCENES", tuple(scene for scene in story.SCENES if scene[0] in TITLES))
        for name, value in (fleet.environment(OPERATOR) | OFTEN).items():
            patch.setenv(name, value)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = story.run(None, run, COPIES, LARGE_BYTES, customer)
    return code, out.getvalue(), err.getvalue()


def test_story(staffed: Fleet, vaults: ComposeVaults) -> None:
    """Every proof holds with the customer's keys in its servers, and both availability keys are in the provider's."""
    code, out, err = told(staffed, vaults.customer)
    (mark,) = re.findall(r"tenant add contoso(-\w+)", out)
    policies = staffed.ask("policy", "list", "--tenant", f"contoso{mark}")
    token = vaults.token(PROVIDER, TIK_CACHE_REFRESHER)

    assert code == 0, out + err
    assert TITLES == {title for title in TITLES if f"  {title}\n" in out}
    assert f"bao write transit/keys/mail{mark} type=aes256-gcm96" in out
    assert {f"bao+https://{vaults.address(name)}/transit/keys/docs{mark}" for name in CUSTOMERS} == {
        key["uri"] for policy in policies for key in policy["keys"] if policy["workload"] == "site"
    }
    for policy in policies:
        found = vaults.api(PROVIDER, "GET", f"availability/keys/availability-{policy['id']}", token=token)
        assert found["data"]["type"] == "aes256-gcm96"


def test_restarted(vaults: ComposeVaults) -> None:
    """A server that was killed opens itself, with its keys."""
    token = vaults.token("vault-1", "customer")
    vaults.api("vault-1", "POST", "transit/keys/kept", {"type": "aes256-gcm96"}, token)
    before = vaults.api("vault-1", "GET", "transit/keys/kept", token=token)["data"]["keys"]
    vaults.stop_one("vault-1")
    vaults.start_one("vault-1")
    vaults.until_open("vault-1")

    assert before == vaults.api("vault-1", "GET", "transit/keys/kept", token=token)["data"]["keys"]


@pytest.mark.parametrize(
    ("name", "login", "method", "path"),
    [
        ("vault-1", TIK_CACHE_REFRESHER, "POST", "transit/keys/theirs"),
        ("vault-1", TIK_CACHE_REFRESHER, "POST", "transit/keys/kept/rotate"),
        ("vault-1", RECOVERY_HANDLER, "DELETE", "transit/keys/kept/soft-delete"),
        ("vault-1", "customer", "POST", "transit/decrypt/kept"),
        (PROVIDER, TIK_CACHE_REFRESHER, "DELETE", "availability/keys/ours"),
        (PROVIDER, TIK_CACHE_REFRESHER, "POST", "availability/keys/ours/config"),
        (PROVIDER, RECOVERY_HANDLER, "GET", "availability/export/encryption-key/ours"),
    ],
)
def test_may_not(vaults: ComposeVaults, name: str, login: str, method: str, path: str) -> None:
    """Custodians only use the customer's keys, the customer can't open what is under them, and one login destroys."""
    with pytest.raises(Refused) as refused:
        vaults.api(name, method, path, {}, vaults.token(name, login))

    assert refused.value.status == 403
