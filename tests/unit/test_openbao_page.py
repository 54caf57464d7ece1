"""docs/vaults/openbao.md tells of every setting."""

import re
from dataclasses import fields
from pathlib import Path

from twinlock.vaults.openbao.settings import OpenBaoServer, OpenBaoSettings

PAGE = (Path(__file__).parents[2] / "docs" / "vaults" / "openbao.md").read_text(encoding="utf-8")


def test_settings() -> None:
    """Every setting of a server, and every one for all of them with its default, has its row."""
    rows = re.findall(r"^\| (`[^|]+) \|", PAGE, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    defaults = {each.name: each.default for each in fields(OpenBaoSettings) if each.name != "servers"}

    assert named == {each.name for each in fields(OpenBaoServer)} | set(defaults)
    for name, default in defaults.items():
        assert f"| `{name}` | {str(default).lower()} |" in PAGE
