"""Looking for content and keys in whatever was written or sent."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Row

from cli.wiring import Parts
from tests.chaos.stage import Stage
from tests.chaos.tenants import CANARY
from tests.faults.searching import Search, pages
from tests.fleet.held_keys import opened_at_home, signing_keys, stored_keys, vault_keys
from twinlock.clock import SystemClock
from twinlock.keys.context import PolicyKeyContext
from twinlock.keys.ports import WrappedKey
from twinlock.vaults.openbao.vault import OpenBaoVault

_TABLES = "SELECT quote_ident(tablename) AS name FROM pg_tables WHERE schemaname = 'public'"
_CALL = b"open-container-key"  # what has to be found, or nothing was looked at


async def _opened(parts: Parts, copy: Row[Any]) -> bytes:
    """Open a stored copy of a policy key by whichever vault it is."""
    if copy.uri.startswith("local://"):
        return await opened_at_home(parts, copy)
    vault = OpenBaoVault(parts.settings.openbao, parts.settings.secrets_folder, SystemClock())
    try:
        wrapped = WrappedKey(copy.uri, copy.key_version, copy.identity, copy.ciphertext)
        place = PolicyKeyContext(copy.tenant_id, copy.policy_id, copy.generation, copy.slot)
        return await vault.unwrap(wrapped, place.encode())
    finally:
        await vault.close()


async def keys_of(parts: Parts) -> dict[str, bytes]:
    """Return every policy key and every container key that is stored now."""
    return await stored_keys(parts, _opened)


def _written(stage: Stage) -> Iterator[bytes]:
    yield from (path.read_bytes() for path in stage.folder.glob("*.log"))
    yield "\n".join(stage.cluster.said).encode()
    for node in stage.nodes:
        for path in [*node.data.rglob("*"), *node.data.with_name("log").rglob("*")]:
            if path.is_file():
                yield path.read_bytes()
    yield from (path.read_bytes() for path in (stage.fleet.home / "objects").rglob("*") if path.is_file())
    for table in stage.fleet.rows(_TABLES):
        rows = stage.fleet.value(f"SELECT coalesce(string_agg(t::text, chr(10)), '') FROM {table['name']} t")  # noqa: S608
        yield str(rows).encode()


def look_everywhere(stage: Stage, made: dict[str, bytes]) -> None:
    """See that no content and no key is in a log, a message, an object or a table."""
    stored = stage.fleet.within(keys_of)
    secrets = {"content": CANARY.encode()} | made | stored | vault_keys(stage.fleet) | signing_keys(stage.fleet)
    search = Search(secrets | {"call": _CALL})
    written = set[bytes]().union(*(pages(data) for data in _written(stage)))
    wires = set[bytes]().union(*(pages(bytes(passed)) for passed in stage.broker.proxy.recorded))
    found = {name for page in wires | written for name in search(page)}
    kinds = {name.split()[0] for name in secrets}

    assert {"content", "key", "policy", "container", "vault", "signing", "audit"} <= kinds, kinds
    assert {"call"} == found, f"found {found}"
