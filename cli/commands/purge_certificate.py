"""The certificate of a purge: printed as it was signed, or checked where nothing else is there."""

import asyncio
import json
from pathlib import Path
from typing import Any

from cli.output import Result, fields
from cli.settings import Settings
from cli.wiring import open_current
from twinlock.errors import NotFound, TwinlockError
from twinlock.keys.signing import public_from_pem
from twinlock.purging.certificate import MAX_BYTES, BadCertificate, Certificate, check
from twinlock.purging.rows import find_purge


def print_certificate(settings: Settings, timeout: float, request: str) -> Result:
    """Return the certificate of a purge, in the very bytes that `--verify` takes."""

    async def work() -> bytes | None:
        async with asyncio.timeout(timeout), open_current(settings) as store, store.read() as reader:
            return (await find_purge(reader, request)).certificate

    with asyncio.Runner() as runner:
        text = runner.run(work())
    if text is None:
        raise NotFound(f"purge {request} has no certificate yet", hint=f"see: twinlock purge show {request}")
    return Result(json.loads(text), [text.decode().removesuffix("\n")])


def verified(request: str, path: Path, key: Path | None) -> Result:
    """Return what a certificate proves, once everything in it is checked; raise where it is not as it was signed."""
    with path.open("rb") as source:
        found = check(source.read(MAX_BYTES + 1), None if key is None else _public(key))
    if found.body["id"] != request:
        raise BadCertificate(f"it is of purge {found.body['id']}")
    document = _document(found)
    return Result(document, ["the certificate is valid", fields(document), *found.body["proves"]])


def _document(found: Certificate) -> dict[str, Any]:
    body = found.body
    return {
        "id": body["id"],
        "valid": True,
        "state": body["state"],
        "tenant": body["tenant"]["name"],
        "policy": body["policy"]["name"],
        "issued_at": body["issued_at"],
        "containers": body["destroyed"]["containers"]["count"],
        "items": body["destroyed"]["items"],
        "earlier": [f"{each['name']} until {each['backups_before']}" for each in body["earlier"]],
        "key": found.key,
    }


def _public(path: Path) -> bytes:
    try:
        return public_from_pem(path.read_bytes())
    except ValueError as damaged:
        raise TwinlockError(f"{path} can't be used: {damaged}", hint="an Ed25519 public key in PEM") from None
