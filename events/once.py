"""Inserting what may be there already: the store's own, under the bus's old name for it."""

from twinlock.store.once import insert_once

__all__ = ["insert_once"]
