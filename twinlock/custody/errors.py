"""How the custodian says no."""

from twinlock.errors import TwinlockError


class CustodyError(TwinlockError):
    """Say that a key was not handed out; `hint` names the fix, and neither holds key material.

    `heard` is for the audit log: what root keys said to this very call, where they were asked.
    """

    def __init__(self, detail: str, *, policy: str, hint: str = "", heard: str | None = None) -> None:
        super().__init__(detail, hint=hint)
        self.policy = policy
        self.heard = heard


class KeyRefused(CustodyError):
    """Say that the decision table refuses; asking again helps only after something changed."""


class Distrusted(KeyRefused):
    """Say that nothing is served from the database as it is: it is an older one, or forged."""


class KeyNotYet(CustodyError):
    """Say that the evidence was not complete within the deadline; asking again may be served (law 5)."""


class NotPermitted(KeyRefused):
    """Say that the caller may not ask this, or names no live work that it is for (law 10)."""


class CustodianSilent(KeyNotYet):
    """Say that no answer of the custodian came in time that is really one: asking again may be served."""

    def __init__(self, detail: str = "the custodian did not answer in time", hint: str = "") -> None:
        super().__init__(detail, policy="", hint=hint or "see that it runs: twinlock worker check tik_cache_refresher")


class WrongAnswer(CustodyError):
    """Say that a custodian's signed answer does not fit what was asked: it is at fault, and nothing is taken of it."""

    def __init__(self, detail: str) -> None:
        super().__init__(f"the custodian's answer does not fit: {detail}", policy="", hint="look into its log")


class GenerationGone(Exception):
    """Say that a container key generation was destroyed meanwhile: read the row that named it again (law 3)."""
