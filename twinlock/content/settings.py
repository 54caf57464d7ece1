"""The numbers of the content part."""

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class ContentSettings:
    """Bound what is held in memory and in one transaction.

    Sizes in bytes, times in seconds. An item above `inline_bytes` lies in the object store.
    """

    inline_bytes: int = 128 * KIB
    batch_items: int = 256
    batch_bytes: int = 8 * MIB
    stream_chunk: int = 1 * MIB
    intent_seconds: float = 6 * 3600.0
    objects_keep: float = 14 * 86400.0
    sweep_batch: int = 500
