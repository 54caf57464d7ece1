"""docs/hedging.md tells the settings as they are."""

import re
from dataclasses import asdict
from pathlib import Path

from twinlock.custody.settings import HedgeSettings

PAGE = Path(__file__).parents[2] / "docs" / "hedging.md"


def test_page_is_current() -> None:
    """docs/hedging.md lists every setting of the hedge, with its default, in order."""
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", PAGE.read_text(), re.MULTILINE)

    assert [(name, str(value)) for name, value in asdict(HedgeSettings()).items()] == rows
