"""Write the audit log to a file that is there whole or not at all, for its owner's eyes alone."""

import json
import os
from pathlib import Path
from typing import Any

from twinlock.custody.audit.chain import moment
from twinlock.custody.audit.reading import Piece, walk
from twinlock.store.unit import Reader


async def write_export(reader: Reader, path: Path) -> int:
    """Write one line of JSON for each entry, in the order of the chain, and return how many."""
    draft, count = path.with_name(f"{path.name}.{os.getpid()}"), 0
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            async for piece in walk(reader):
                file.writelines(line(entry, piece) for entry in piece.entries)
                count += len(piece.entries)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return count


def line(entry: Any, piece: Piece) -> str:
    """Return an entry as a line; one that can't be read says so, and where it stands."""
    said: dict[str, Any] = {"writer": entry.writer, "sequence": entry.sequence, "mac": _hex(entry.mac)}
    if hasattr(entry, "kind"):
        said |= {name: getattr(entry, name) for name in ("kind", "tenant_id", "policy_id", "detail")}
        said["at"] = moment(entry.at)
    else:
        said["damaged"] = True
    seal = piece.seal
    said["seal"] = seal and {"number": seal.number, "at": moment(seal.at), "head": _hex(seal.head)}
    return json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"


def _hex(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
