"""Wipe keys when something goes wrong before they reach their new owner."""

from collections.abc import Iterator
from contextlib import contextmanager

from twinlock.keys.secret import SecretKey


@contextmanager
def wiped_on_failure(*keys: SecretKey | None) -> Iterator[None]:
    """Wipe these keys if the block raises, cancellation included."""
    try:
        yield
    except BaseException:
        wipe(*keys)
        raise


def wipe(*keys: SecretKey | None) -> None:
    """Wipe what there is."""
    for key in keys:
        if key is not None:
            key.wipe()
