"""What a worker measures of itself: the page, and the dashboards and rules that read it."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import aiohttp

from tests.unit.test_worker_health import says, served
from twinlock.custody.operations import Operation
from workers.health import Health
from workers.metrics import looks
from workers.metrics.instruments import MOST_VAULTS, Metrics
from workers.metrics.page import Page

DEPLOY = Path(__file__).parents[2] / "deploy"
_NAME = re.compile(r"\btwinlock_[a-z_]+")


async def samples(page: Page, name: str) -> list[tuple[dict[str, str], float]]:
    """Return every sample of a name, once the page was made."""
    await page.render("")
    families = page.metrics.registry.collect()
    return [(each.labels, each.value) for family in families for each in family.samples if each.name == name]


def test_counts() -> None:
    """What was heard is on the page under the names of its labels."""
    page = Page()
    page.metrics.called("local://left", Operation.UNWRAP, "denied", 0.2)
    page.metrics.called("local://left", Operation.UNWRAP, "denied", 0.3)
    labels = {"vault": "local://left", "operation": "unwrap", "outcome": "denied"}

    assert [(labels, 2)] == asyncio.run(samples(page, "twinlock_vault_call_seconds_count"))


def test_any_number_of_vaults() -> None:
    """Whoever names vaults without end fills no page: beyond a bound they are one."""
    page = Page()
    for number in range(MOST_VAULTS + 3):
        page.metrics.hedged(f"https://v{number}.vault.azure.net")
    page.metrics.hedged("https://v1.vault.azure.net")
    found = {each["vault"]: value for each, value in asyncio.run(samples(page, "twinlock_hedges_total"))}

    assert (MOST_VAULTS + 1, 3, 2) == (len(found), found["other"], found["https://v1.vault.azure.net"])


async def test_look_that_fails() -> None:
    """What can't be looked up is missing and counted, and the rest is there."""
    metrics = Metrics()
    gauge = metrics.gauge("queue_messages", "Messages.", "worker")

    async def hangs_up() -> None:
        raise ConnectionError("a password")

    async def sets() -> None:
        gauge.labels("dep_assigner").set(3)

    page = Page(metrics, {"broken": hangs_up, "whole": sets})

    assert [({"worker": "dep_assigner"}, 3)] == await samples(page, "twinlock_queue_messages")
    assert [({"look": "broken"}, 2)] == await samples(page, "twinlock_looks_failed_total")


async def test_served() -> None:
    """The page is served beside the checks, and tells of them."""
    subject = Health({"database": says(""), "broker": says("not consuming")})
    async with served(subject) as url, aiohttp.ClientSession() as session, session.get(f"{url}/metrics") as answer:
        lines = (await answer.text()).splitlines()

    assert answer.content_type == "text/plain"
    assert {'twinlock_ready{check="database"} 1.0', 'twinlock_ready{check="broker"} 0.0'} <= set(lines)


def expressions() -> dict[str, str]:
    """Return the text of every query that comes with the project, by its title."""
    board: Any = json.loads((DEPLOY / "grafana" / "twinlock.json").read_text())
    found = {each["title"]: " ".join(one["expr"] for one in each.get("targets", ())) for each in board["panels"]}
    return found | {"rules": (DEPLOY / "prometheus" / "rules.yml").read_text()}


def known() -> set[str]:
    """Return every name that some worker's page can hold."""
    metrics = Metrics()
    for name in re.findall(r'metrics\.gauge\(\s*"([a-z_]+)"', Path(looks.__file__).read_text()):
        metrics.gauge(name, "What stands.")
    kinds = {"histogram": ("_bucket", "_count", "_sum"), "counter": ("_total",), "gauge": ("",)}
    return {each.name + ending for each in metrics.registry.collect() for ending in kinds.get(each.type, ())}


def test_every_query_reads_what_there_is() -> None:
    """Each name in the dashboard and in the rules is one that a worker's page holds, and each of those is used."""
    asked = {title: set(_NAME.findall(text)) for title, text in expressions().items()}
    own = {name for name in known() if name.startswith("twinlock_") and not name.endswith(("_sum", "_bucket"))}

    assert {} == {title: names - known() for title, names in asked.items() if names - known()}
    assert set() == own - set().union(*asked.values())
