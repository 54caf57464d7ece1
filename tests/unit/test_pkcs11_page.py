"""docs/vaults/pkcs11.md tells of every setting."""

import re
from dataclasses import fields
from pathlib import Path

from twinlock.vaults.pkcs11.settings import Pkcs11Settings, Pkcs11Token

PAGE = (Path(__file__).parents[2] / "docs" / "vaults" / "pkcs11.md").read_text(encoding="utf-8")


def test_settings() -> None:
    """Every setting of a token, and every one for all of them with its default, has its row."""
    rows = re.findall(r"^\| (`[^|]+) \|", PAGE, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    defaults = {each.name: each.default for each in fields(Pkcs11Settings) if each.name != "tokens"}

    assert named == {each.name for each in fields(Pkcs11Token)} | set(defaults)
    for name, default in defaults.items():
        assert f"| `{name}` | {default} |" in PAGE
