"""What every object that holds key material has in common."""

from typing import NoReturn, SupportsIndex

Buffer = bytes | bytearray | memoryview


class Guarded:
    """Refuse to print, pickle or copy an object that holds key material.

    `pickle`, `copy` and `deepcopy` all go through `__reduce_ex__`; `__getstate__` would hand out the slots.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} (redacted)>"

    def __str__(self) -> str:
        return repr(self)

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds key material: it is never pickled or copied")

    def __getstate__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds key material: it is never pickled or copied")
