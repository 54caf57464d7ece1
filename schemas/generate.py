"""Generate the JSON Schemas and the AsyncAPI document from the registry; the committed copies are in `generated/`.

`python -m schemas.generate` writes them again. Equal models give equal bytes.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from schemas.asyncapi import asyncapi
from schemas.envelope import Envelope, schema_uri
from schemas.registry import EVENTS

DIALECT = "https://json-schema.org/draft/2020-12/schema"
ENVELOPE_NAME = "envelope"
GENERATED = Path(__file__).parent / "generated"


def documents() -> Mapping[str, str]:
    """Return the text of every document by its relative path."""
    models: dict[str, type[BaseModel]] = {ENVELOPE_NAME: Envelope, **EVENTS}
    found = {f"{name}.json": _text(json_schema(name, model)) for name, model in models.items()}
    return {**found, "asyncapi.json": _text(asyncapi())}


def json_schema(name: str, model: type[BaseModel]) -> dict[str, Any]:
    """Return what a reader may rely on: unknown members stay allowed, a member with a default may be missing."""
    return {"$schema": DIALECT, "$id": schema_uri(name), **model.model_json_schema(mode="validation")}


def export(folder: Path) -> list[Path]:
    """Write every document below a folder, which is made if need be, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    return [_write(folder / name, text) for name, text in documents().items()]


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def _text(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for stale in GENERATED.glob("*.json"):
        stale.unlink()
    export(GENERATED)
