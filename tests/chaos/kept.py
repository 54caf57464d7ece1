"""Every key that the fleet ever stored: a trigger keeps each wrap, and the home's availability keys open them all."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import MetaData, Row, Table, select

from cli.wiring import Parts
from tests.chaos.stage import DATABASE, Stage
from tests.fleet.held_keys import opened_at_home, vault_keys
from twinlock.keys.blobs import SiteCipher
from twinlock.keys.context import BlobContext, ContainerKeyContext
from twinlock.keys.items import ItemCipher
from twinlock.keys.secret import KEY_BYTES, SecretKey
from twinlock.keys.wrap import unwrap_key
from twinlock.store.tables.content import container_keys, containers, files
from twinlock.store.tables.custody import policies, policy_key_copies

# Where nobody of the fleet looks or writes; a row of it is one that was stored, be it replaced since.
_KEEP = """
CREATE SCHEMA kept;
GRANT USAGE ON SCHEMA kept TO PUBLIC;
CREATE FUNCTION kept.keep() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS
$$ BEGIN EXECUTE format('INSERT INTO kept.%I SELECT ($1).*', TG_TABLE_NAME) USING NEW; RETURN NULL; END $$;
"""
_KEEP_TABLE = """
CREATE TABLE kept.{table} AS SELECT * FROM public.{table};
GRANT SELECT ON kept.{table} TO PUBLIC;
CREATE TRIGGER keep AFTER INSERT OR UPDATE OF {wrap} ON public.{table} FOR EACH ROW EXECUTE FUNCTION kept.keep();
"""
_WRAPS = {"policy_key_copies": "ciphertext", "container_keys": "wrapped", "files": "wrapped_key"}


def _kept(table: Table) -> Table:
    return table.to_metadata(MetaData(), schema="kept")


_copies, _wrapped, _files = map(_kept, (policy_key_copies, container_keys, files))


class Kept:
    """Keep what is stored from now on, and open it in time: an availability key may be destroyed later."""

    def __init__(self, stage: Stage) -> None:
        self._fleet = stage.fleet
        self._vaults: dict[str, bytes] = {}
        self._policies: dict[tuple[str, int], SecretKey] = {}
        tables = (_KEEP_TABLE.format(table=table, wrap=wrap) for table, wrap in _WRAPS.items())
        stage.cluster.load("".join([_KEEP, *tables]), DATABASE)

    def learn(self) -> None:
        """Open what can't be opened any more when its policy has been recovered."""
        self._vaults |= vault_keys(self._fleet)
        self._fleet.within(self._open)

    def keys(self) -> dict[str, bytes]:
        """Return the key of every policy, container and blob that was ever stored, and what the home's vaults held."""
        self.learn()
        return self._fleet.within(self._keys) | self._vaults

    async def _open(self, parts: Parts) -> None:
        query = select(_copies, policies.c.tenant_id).join(policies, policies.c.id == _copies.c.policy_id)
        async with parts.store.read() as reader:
            found = await reader.rows(query.where(_copies.c.slot == "availability"))
        for copy in found:
            place = copy.policy_id, copy.generation
            if place not in self._policies:
                self._policies[place] = SecretKey((await opened_at_home(parts, copy))[:KEY_BYTES])

    async def _keys(self, parts: Parts) -> dict[str, bytes]:
        async with parts.store.read() as reader:
            wrapped = await reader.rows(_within(_wrapped))
            blobs = await reader.rows(_within(_files).where(_files.c.wrapped_key.is_not(None)))
            made = {place for table in (policies, containers) for place in _made(await reader.rows(select(table)))}
        keys = {(row.container_id, row.generation): self._container(row) for row in wrapped}
        unknown = made - keys.keys() - self._policies.keys()
        assert not unknown, f"nobody knows the keys {unknown}"
        found = [(f"policy {place}", key) for place, key in self._policies.items()]
        found += [(f"container {place}", key) for place, key in keys.items()]
        found += _of_blobs(keys, blobs)
        for key in keys.values():
            ItemCipher(key)  # what a cipher derives from a key is noted like every key that this process has held
        return {name: bytes(key.expose()) for name, key in found}

    def _container(self, row: Row[Any]) -> SecretKey:
        over = row.policy_id, row.policy_key_generation
        place = ContainerKeyContext(row.tenant_id, *over, row.container_id, row.generation)
        return unwrap_key(self._policies[over], row.wrapped, place)


def _made(rows: Sequence[Row[Any]]) -> set[tuple[str, int]]:
    """Return every generation that there was."""
    return {(row.id, number + 1) for row in rows for number in range(row.newest_generation)}


def _within(table: Table) -> Any:
    return select(table, containers.c.tenant_id).join(containers, containers.c.id == table.c.container_id)


def _of_blobs(keys: dict[tuple[str, int], SecretKey], rows: Sequence[Row[Any]]) -> Iterator[tuple[str, SecretKey]]:
    for row in rows:
        over = keys[row.container_id, row.generation]
        context = BlobContext(row.tenant_id, row.container_id, row.generation, row.id, row.version)
        SiteCipher(over).open(row.wrapped_key, context)
        yield f"blob {row.id} {row.generation} {row.version}", unwrap_key(over, row.wrapped_key, context.of_key)
