"""Who may ask the custodian, and who answers for it: the enrolled Ed25519 keys (law 9).

The database is trusted with these, the broker is not. A name may have several live keys, one for each replica; a key
belongs to one name for good.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import select, update

from twinlock.errors import AlreadyExists, NotFound
from twinlock.keys.signing import fingerprint
from twinlock.store.once import insert_once
from twinlock.store.tables.custody import enrolled_workers
from twinlock.store.unit import Reader, Unit


@dataclass(frozen=True, slots=True)
class Enrolled:
    """Hold a live key and whose it is; where there is a `login`, the broker has to vouch for it as well."""

    name: str
    public_key: bytes
    login: str | None


@dataclass(frozen=True, slots=True)
class KnownKey:
    """Describe a key for people; `fingerprint` is in hex."""

    name: str
    fingerprint: str
    retired: bool


async def find_key(reader: Reader, signer: bytes) -> Enrolled | None:
    """Return the live key with this fingerprint (32 bytes), or none."""
    row = enrolled_workers.c
    found = await reader.row(select(enrolled_workers).where(row.fingerprint == signer.hex(), row.retired_at.is_(None)))
    return None if found is None else Enrolled(found.name, found.public_key, found.login)


async def keys_of(reader: Reader, name: str) -> Mapping[bytes, bytes]:
    """Return the live public keys of a name, by their fingerprints."""
    row = enrolled_workers.c
    found = await reader.rows(select(row.public_key).where(row.name == name, row.retired_at.is_(None)))
    return {fingerprint(each.public_key): each.public_key for each in found}


async def list_keys(reader: Reader) -> list[KnownKey]:
    """Return every key that was ever enrolled, by name."""
    row = enrolled_workers.c
    found = await reader.rows(select(enrolled_workers).order_by(row.name, row.enrolled_at, row.fingerprint))
    return [KnownKey(each.name, each.fingerprint, each.retired_at is not None) for each in found]


async def enroll(unit: Unit, name: str, public_key: bytes, login: str | None = None) -> bool:
    """Enrol a key under a name and say whether that is new; raise `AlreadyExists` where it is somebody else's.

    With a `login`, calls count only if the broker says that they came from it; an enrolled key can be given one later.
    """
    hexed = fingerprint(public_key).hex()
    values = {
        "fingerprint": hexed,
        "name": name,
        "public_key": public_key,
        "login": login,
        "enrolled_at": unit.clock.now(),
    }
    if (await unit.execute(insert_once(unit, enrolled_workers).values(values))).rowcount:
        return True
    row = enrolled_workers.c
    known = await unit.row(select(enrolled_workers).where(row.fingerprint == hexed))
    if known is not None and known.name == name and known.retired_at is None:
        return login is not None and await _set_login(unit, hexed, login)
    raise AlreadyExists(
        f"the key {hexed} is retired, or another worker's",
        hint=f"a key belongs to one worker for good: remove the file secrets/{name}.key, and enrol a new one",
    )


async def _set_login(unit: Unit, signer: str, login: str) -> bool:
    row = enrolled_workers.c
    other = update(enrolled_workers).where(row.fingerprint == signer, row.login.is_distinct_from(login))
    return bool((await unit.execute(other.values(login=login))).rowcount)


async def retire(unit: Unit, name: str, signer: str) -> None:
    """Retire a key for good, named by its fingerprint in hex; raise `NotFound` where it is none of this name's."""
    row = enrolled_workers.c
    live = update(enrolled_workers).where(row.name == name, row.fingerprint == signer, row.retired_at.is_(None))
    if not (await unit.execute(live.values(retired_at=unit.clock.now()))).rowcount:
        raise NotFound(f"{name} has no live key {signer[:64]}", hint="see: twinlock worker keys")
