"""Looking for content and keys in whatever was written or sent."""

from collections.abc import Iterator

from tests.chaos.kept import Kept
from tests.chaos.stage import Stage
from tests.chaos.tenants import CANARY
from tests.faults.searching import Search, pages
from tests.fleet.held_keys import signing_keys

_TABLES = "SELECT quote_ident(tablename) AS name FROM pg_tables WHERE schemaname = 'public'"
_CALL = b"open-container-key"  # what has to be found, or nothing was looked at


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


def look_everywhere(stage: Stage, made: dict[str, bytes], kept: Kept) -> None:
    """See that no content and no key is in a log, a message, an object or a table."""
    stored = kept.keys()  # before what was made is read: opening them adds to it
    secrets = {"content": CANARY.encode()} | made | stored | signing_keys(stage.fleet)
    search = Search(secrets | {"call": _CALL})
    written = set[bytes]().union(*(pages(data) for data in _written(stage)))
    wires = set[bytes]().union(*(pages(bytes(passed)) for passed in stage.broker.proxy.recorded))
    found = {name for page in wires | written for name in search(page)}
    kinds = {name.split()[0] for name in secrets}

    assert {"content", "key", "policy", "container", "blob", "vault", "signing", "audit"} <= kinds, kinds
    assert {"call"} == found, f"found {found}"
