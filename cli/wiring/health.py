"""What tells whether a process can work."""

from typing import Protocol

from sqlalchemy import text

from twinlock.store.unit import Store
from workers.health import Check


def health_of_store(store: Store) -> Check:
    """Check that the database answers."""

    async def check() -> str:
        async with store.read() as reader:
            await reader.scalar(text("SELECT 1"))
        return ""

    return check


class Consuming(Protocol):
    """Something that takes messages from the broker."""

    @property
    def healthy(self) -> bool:
        """Tell whether it takes all that it should."""
        ...


def health_of_broker(*consuming: Consuming) -> Check:
    """Check that everything is consumed that should be."""

    async def check() -> str:
        return "" if all(each.healthy for each in consuming) else "not consuming"

    return check


class Publishing(Protocol):
    """Something that brings messages to the broker."""

    async def reach(self) -> None:
        """See that the broker is within reach; raise otherwise."""
        ...


def health_of_publishing(publishing: Publishing) -> Check:
    """Check that the broker is within reach of one who takes nothing from it."""

    async def check() -> str:
        await publishing.reach()
        return ""

    return check
