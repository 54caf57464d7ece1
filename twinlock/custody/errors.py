"""How the custodian says no."""

from twinlock.errors import TwinlockError


class CustodyError(TwinlockError):
    """Say that a key was not handed out; `hint` names the fix, and neither holds key material."""

    def __init__(self, detail: str, *, policy: str, hint: str = "") -> None:
        super().__init__(detail, hint=hint)
        self.policy = policy


class KeyRefused(CustodyError):
    """Say that the decision table refuses; asking again helps only after something changed."""


class KeyNotYet(CustodyError):
    """Say that the evidence was not complete within the deadline; asking again may be served (law 5)."""


class GenerationGone(Exception):
    """Say that a container key generation was destroyed meanwhile: read the row that named it again (law 3)."""
