"""The two ways in which an operation on a key can fail."""


class DecryptionError(Exception):
    """Say that bytes do not decrypt, and nothing more (law 2).

    There is one message for every cause: whoever can tell a wrong key from a moved row or a flipped bit can use the
    difference as an oracle. It takes no arguments, so that no caller can add one.
    """

    def __init__(self) -> None:
        super().__init__()

    def __str__(self) -> str:
        return "does not decrypt: wrong key, wrong place, or damaged"


class KeyWipedError(RuntimeError):
    """Say that a key was used after it was wiped: a fault of the program, never of the data."""

    def __init__(self) -> None:
        super().__init__()

    def __str__(self) -> str:
        return "this key was wiped and can't be used any more"
