"""The page `docs/errors.md`, made from the decision function, so that it can't say anything else."""

from collections.abc import Iterator

from twinlock.custody.decision import HINTS, Reason, Row, table

_HEAD = """\
# When a key is refused

What Twinlock does when a policy's two root keys answer, or don't. Made from `twinlock/custody/decision.py`, the one
function that decides; a test fails when the two differ. `twinlock errors` prints the same rows.

Every answer of a vault is `ok` or one of five classes:

- `unavailable`: the vault did not answer, or said it can't now;
- `denied`: an explicit act of the customer;
- `unclear`: it can't be told yet whose act it was;
- `misconfigured`: our own credential, address or setup is wrong;
- `corrupt`: the vault answered, and the bytes do not decrypt or do not match.

A call that a limit of ours holds back, be it a tenant's budget, a vault's rate or a vault's own wish to be left alone,
counts as `unavailable` and proves nothing. Where that kept us from asking either vault, the refusal names the limit
instead of the reason in the table, and to try again in a few seconds is all there is to do.

The order of the two slots never matters. A `denied` or `corrupt` holds through outages, restarts and other processes
until that key itself unwraps again.

"Wait" means that the call tries again within its deadline and then fails as retryable: the availability key opens for
unavailability only when the failures of both vaults prove it and something outside the customer's control still
answers. Where nothing else is said, the evidence is complete and the availability key present. The reason and the
alerts are those of a service-initiated call in mode `standard`.

## The table

| root keys | user-initiated | service-initiated | reason | alerts |
|---|---|---|---|---|
"""

_MIDDLE = """
## What to do

| reason | hint |
|---|---|
"""


def markdown() -> str:
    """Return the whole page."""
    return _HEAD + "".join(map(_line, table())) + _MIDDLE + "".join(_hints())


def _line(row: Row) -> str:
    alerts = ", ".join(f"`{kind}`" for kind in row.alerts)
    return f"| {row.situation} | {row.user} | {row.service} | {row.reason} | {alerts} |\n"


def _hints() -> Iterator[str]:
    for reason in Reason:
        if HINTS[reason]:
            yield f"| {reason.value} | {HINTS[reason]} |\n"
