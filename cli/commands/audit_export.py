"""The audit log as a file, that is there whole or not at all, for its owner's eyes alone."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from cli.failures import UsageFault
from twinlock.custody.audit.chain import moment
from twinlock.custody.audit.cut import Cut, read_cut
from twinlock.custody.audit.reading import Piece, walk
from twinlock.store.unit import Reader


async def write_export(reader: Reader, path: Path) -> int:
    """Write one line of JSON for each entry, in the order of the chain, and return how many.

    Where the log begins behind a cut, the first line says so instead.
    """
    draft, count = path.with_name(f"{path.name}.{os.getpid()}"), 0
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            cut = await read_cut(reader)
            file.writelines([] if cut is None else [beginning(cut)])
            async for piece in walk(reader, cut):
                file.writelines(line(entry, piece) for entry in piece.entries)
                count += len(piece.entries)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return count


@contextmanager
def open_export(path: Path) -> Iterator[IO[str]]:
    """Open an export to read its lines, byte for byte."""
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            yield lines
    except OSError as error:
        raise UsageFault(
            f"{path} can't be read: {(error.strerror or '').lower()}", hint="name an export of the audit log"
        ) from None


def beginning(cut: Cut) -> str:
    """Return the line that says where a log begins: the checkpoint, and the entry that records the cut."""
    said = {"begins": json.loads(cut.signed.statement), "signature": cut.signed.signature.hex()}
    return _line({**said, "record": _said(cut.record)})


def line(entry: Any, piece: Piece) -> str:
    """Return an entry as a line; one that can't be read says so, and where it stands."""
    seal = piece.seal
    sealed = seal and {"number": seal.number, "at": moment(seal.at), "head": _hex(seal.head)}
    return _line({**_said(entry), "seal": sealed})


def _said(entry: Any) -> dict[str, Any]:
    said: dict[str, Any] = {"writer": entry.writer, "sequence": entry.sequence, "mac": _hex(entry.mac)}
    if not hasattr(entry, "kind"):
        return {**said, "damaged": True}
    said |= {name: getattr(entry, name) for name in ("kind", "tenant_id", "policy_id", "detail")}
    return {**said, "at": moment(entry.at)}


def _line(said: dict[str, Any]) -> str:
    return json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"


def _hex(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
