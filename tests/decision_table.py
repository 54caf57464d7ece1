"""The design's decision table, written out by hand: what tests hold the code against, and never computed from it."""

# Each cell is user/service; S serve, - refuse, u by mode for unavailable, d by mode for denied.
#                 ok     unav   denied uncl   misc   corrupt
PAIRS = """
ok                S/S    S/S    S/S    S/S    S/S    S/S
unavailable       S/S    u/u    -/d    -/-    -/-    -/-
denied            S/S    -/d    -/d    -/-    -/-    -/-
unclear           S/S    -/-    -/-    -/-    -/-    -/-
misconfigured     S/S    -/-    -/-    -/-    -/-    -/-
corrupt           S/S    -/-    -/-    -/-    -/-    -/-
"""

# Who gets the availability key: mode, unavailable for a user, unavailable for the service, denied for the service.
MODES = {
    ("standard", "u", "user"): True,
    ("standard", "u", "service"): True,
    ("standard", "d", "service"): True,
    ("strict", "u", "user"): True,
    ("strict", "u", "service"): True,
    ("strict", "d", "service"): False,
    ("recovery-only", "u", "user"): False,
    ("recovery-only", "u", "service"): False,
    ("recovery-only", "d", "service"): False,
    ("none", "u", "user"): False,
    ("none", "u", "service"): False,
    ("none", "d", "service"): False,
}

COLUMNS = ("ok", "unavailable", "denied", "unclear", "misconfigured", "corrupt")

CELLS = {
    (line.split()[0], column): cell
    for line in PAIRS.strip().splitlines()
    for column, cell in zip(COLUMNS, line.split()[1:], strict=True)
}


def cell_of(slots: tuple[str, str], mode: str, initiator: str) -> str:
    """Return what a call gets of an active policy: S, - or, where its mode grants the availability key, u or d."""
    user, service = CELLS[slots].split("/")
    cell = user if initiator == "user" else service
    return cell if cell in ("S", "-") or MODES[mode, cell, initiator] else "-"
