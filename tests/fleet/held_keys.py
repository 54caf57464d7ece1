"""Every key that an installation holds, as whoever looks for them afterwards has to know them."""

from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from sqlalchemy import Row, select

from cli.wiring import Parts
from tests.faults.searching import numbers_of
from tests.fleet.installation import Fleet
from twinlock.keys.context import ContainerKeyContext, PolicyKeyContext
from twinlock.keys.secret import KEY_BYTES, SecretKey
from twinlock.keys.wrap import unwrap_key
from twinlock.store.tables.content import container_keys, containers
from twinlock.store.tables.custody import policies, policy_key_copies
from twinlock.vaults.software.material import RsaMaterial
from twinlock.vaults.software.records import NamedKeys


def vault_keys(fleet: Fleet) -> dict[str, bytes]:
    """Return what the home's vaults hold: root keys and availability keys."""
    found: dict[str, bytes] = {}
    for path in (fleet.home / "vaults").rglob("*.json"):
        for version in NamedKeys.model_validate_json(path.read_bytes()).current.versions:
            held = version.material()
            found |= numbers_of(held._key) if isinstance(held, RsaMaterial) else {f"vault {path}": held.export()}
    return found


def signing_keys(fleet: Fleet) -> dict[str, bytes]:
    """Return the audit log's key, and the private halves of what was enrolled, as they are and as their files are."""
    found = {"audit": (fleet.home / "secrets" / "audit.key").read_bytes()}
    for path in (fleet.home.parent / "secrets").rglob("*.key"):
        key = load_pem_private_key(path.read_bytes(), None)
        found[f"signing {path.name}"] = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        found[f"signing {path.name} in its file"] = b"".join(path.read_bytes().splitlines()[1:-1])
    return found


async def opened_at_home(parts: Parts, copy: Row[Any]) -> bytes:
    """Open a stored copy of a policy key by a vault of the home, whatever state its key is in."""
    path = parts.settings.home / "vaults" / f"{copy.uri.removeprefix('local://')}.json"
    root = NamedKeys.model_validate_json(path.read_bytes()).current.version(copy.key_version).material()
    place = PolicyKeyContext(copy.tenant_id, copy.policy_id, copy.generation, copy.slot)
    return root.unwrap(copy.ciphertext, place.encode())


async def stored_keys(parts: Parts) -> dict[str, bytes]:
    """Open every policy key and every container key that is stored now, by the vaults alone."""
    copies = select(policy_key_copies, policies.c.tenant_id).where(policy_key_copies.c.slot == "a")
    async with parts.store.read() as reader:
        found = await reader.rows(copies.join(policies, policies.c.id == policy_key_copies.c.policy_id))
        wrapped = await reader.rows(select(container_keys, containers.c.tenant_id).join(containers))
    by_place = {(copy.policy_id, copy.generation): (await opened_at_home(parts, copy))[:KEY_BYTES] for copy in found}
    keys = {f"policy {name}": key for name, key in by_place.items()}
    for row in wrapped:
        over = row.policy_id, row.policy_key_generation
        place = ContainerKeyContext(row.tenant_id, *over, row.container_id, row.generation)
        key = unwrap_key(SecretKey(by_place[over]), row.wrapped, place)
        keys[f"container {row.container_id} {row.generation}"] = bytes(key.expose())
    return keys
