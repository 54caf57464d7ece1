"""The root of every error that a person may see: a message, and a hint that names the fix."""


class TwinlockError(Exception):
    """Say what was refused, in a message without a secret; `hint` names the fix where there is one."""

    def __init__(self, detail: str, *, hint: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint = hint


class NotFound(TwinlockError):
    """Say that the named thing does not exist."""


class AlreadyExists(TwinlockError):
    """Say that the name is taken."""
