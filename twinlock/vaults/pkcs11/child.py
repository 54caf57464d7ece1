"""The process that a token's library runs in: it reads requests, does one after the other, and ends with its parent.

A library may write to standard output, block for ever, or crash. So the pipes are moved out of its way, a thread
watches for the parent's end while the library has the other one, and no crash leaves a dump with the PIN in it.
"""

import os
import resource
import select
import threading
import time
from contextlib import suppress
from typing import Any, BinaryIO

from pkcs11 import PKCS11Error

from twinlock.vaults.pkcs11.codes import code_of
from twinlock.vaults.pkcs11.frames import LENGTH_BYTES, body_length, decode, encode
from twinlock.vaults.pkcs11.library import Token
from twinlock.vaults.pkcs11.objects import Refusal

_FAREWELL_SECONDS = 2.0


def main() -> None:
    """Serve until the parent hangs up."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    source, sink = _private(0, os.O_RDONLY, "rb"), _private(1, os.O_WRONLY, "wb")
    threading.Thread(target=_end_with_parent, args=(source.fileno(),), daemon=True).start()
    first = _read(source)
    if first is None:
        return
    token = Token(first)
    _write(sink, {"id": first["id"], "ok": {}})
    while (request := _read(source)) is not None:
        _write(sink, {"id": request["id"], **_answer(token, request)})
    token.close()


def _private(number: int, flags: int, mode: str) -> Any:
    """Move a standard stream to a descriptor that no library knows, and leave nothing in its place."""
    own, nothing = os.dup(number), os.open(os.devnull, flags)
    os.dup2(nothing, number)
    os.close(nothing)
    return os.fdopen(own, mode)


def _end_with_parent(descriptor: int) -> None:
    hangs_up = select.poll()
    hangs_up.register(descriptor, 0)  # no event but the end of the other side
    hangs_up.poll()
    time.sleep(_FAREWELL_SECONDS)
    os._exit(1)


def _answer(token: Token, request: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"ok": token.do(request)}
    except Refusal as refusal:
        return {"fault": {"reason": refusal.reason}}
    except PKCS11Error as fault:
        return {"fault": {"code": code_of(fault), "barred": token.barred}}
    except Exception as fault:  # noqa: BLE001 - a library's wrong answer must not end its process
        return {"fault": {"kind": type(fault).__name__}}


def _read(source: BinaryIO) -> dict[str, Any] | None:
    head = source.read(LENGTH_BYTES)
    if len(head) < LENGTH_BYTES:
        return None
    return decode(source.read(body_length(head)))


def _write(sink: BinaryIO, answer: dict[str, Any]) -> None:
    sink.write(encode(answer))
    sink.flush()


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        main()
