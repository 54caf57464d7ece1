"""docs/vaults/azure.md tells of every setting."""

import re
from dataclasses import fields
from pathlib import Path

from twinlock.vaults.azure.settings import AzureDirectory, AzureHost, AzureSettings
from twinlock.vaults.azure.uris import CLOUDS

PAGE = (Path(__file__).parents[2] / "docs" / "vaults" / "azure.md").read_text(encoding="utf-8")


def test_settings() -> None:
    """Every setting of a login and of a host, and every one for all of them with its default, has its row."""
    rows = re.findall(r"^\| (`[^|]+) \|", PAGE, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    general = {each.name: each.default for each in fields(AzureSettings) if each.name not in ("directories", "vaults")}

    assert named == {each.name for kind in (AzureDirectory, AzureHost) for each in fields(kind)} | set(general)
    for name, default in general.items():
        shown = "" if default is None else f"{default} ".lower()
        assert f"| `{name}` | {shown}|" in PAGE


def test_clouds() -> None:
    """The suffix of every cloud's vaults is there, and where we log in by default."""
    for cloud in CLOUDS:
        assert cloud.hsm or cloud.suffix in PAGE
    assert AzureHost().authority in PAGE
