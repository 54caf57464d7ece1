"""TLS to PostgreSQL and RabbitMQ: whoever answers has to have a certificate from the authority that was named."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from events.amqp.connection import Link
from events.amqp.trouble import NotReached
from tests.servers.certificates import Certificates
from tests.servers.postgres import Postgres
from tests.servers.rabbitmq import RabbitNode, Vhost
from twinlock.store.engine import UnsupportedDatabase, open_engine
from twinlock.store.postgres import DatabaseNotReached, DatabaseUnavailable

VERIFIED = "?ssl=verify-full&sslrootcert={authority}"


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Make the authority of the installation, and the server's certificate."""
    return Certificates(tmp_path_factory.mktemp("trusted"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Make an authority that did not sign any of these servers' certificates."""
    return Certificates(tmp_path_factory.mktemp("stranger"))


@pytest.fixture(scope="module")
def secured(trusted: Certificates) -> Iterator[Postgres]:
    """Start a cluster that takes connections by TLS alone."""
    cluster = Postgres()
    try:
        cluster.secure(trusted)
        cluster.start()
        yield cluster
    finally:
        cluster.close()


async def asked(url: str) -> bool:
    """Connect, and return whether the server says that the connection is by TLS."""
    engine = open_engine(url)
    try:
        async with engine.connect() as connection:
            return bool(await connection.scalar(text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")))
    finally:
        await engine.dispose()


async def test_database(secured: Postgres, trusted: Certificates) -> None:
    """A server whose certificate the named authority signed, for the host of the URL, is believed."""
    assert await asked(secured.url("postgres") + VERIFIED.format(authority=trusted.authority))


async def test_strange_database(secured: Postgres, stranger: Certificates) -> None:
    """A server of another authority is refused before it is sent a password, and waiting does not mend that."""
    with pytest.raises(DatabaseUnavailable, match="is not trusted: TLS failed") as refused:
        await asked(secured.url("postgres") + VERIFIED.format(authority=stranger.authority))

    assert not isinstance(refused.value, DatabaseNotReached)
    assert "sslrootcert=FILE" in str(refused.value.hint)
    assert secured.password not in str(refused.value)


async def test_database_of_another_name(secured: Postgres, trusted: Certificates) -> None:
    """A good certificate for another host is none."""
    url = secured.url("postgres").replace("127.0.0.1", "localhost") + VERIFIED.format(authority=trusted.authority)
    with pytest.raises(DatabaseUnavailable, match="is not trusted: TLS failed"):
        await asked(url)


async def test_database_in_the_clear(secured: Postgres) -> None:
    """A server that takes TLS alone says so to whoever comes without."""
    with pytest.raises(DatabaseUnavailable, match="lets this user not in this way") as refused:
        await asked(secured.url("postgres") + "?ssl=disable")

    assert "?ssl=verify-full" in str(refused.value.hint)


@pytest.mark.parametrize("end", ["?sslrootcert={authority}", "?ssl=require&sslrootcert={authority}", VERIFIED + "x"])
def test_authority_of_no_use(trusted: Certificates, end: str) -> None:
    """An authority that nothing would be checked against, or that is no file, is refused with the settings."""
    url = "postgresql+asyncpg://twinlock:hunter2@db.example/twinlock" + end.format(authority=trusted.authority)
    with pytest.raises(UnsupportedDatabase, match="sslrootcert") as refused:
        open_engine(url)

    assert "hunter2" not in str(refused.value)


async def spoken_to(rabbit: RabbitNode, vhost: Vhost, host: str, authority: Path) -> None:
    """Open a channel by TLS, and close it."""
    url = vhost.url.replace("amqp://", "amqps://").replace(f"127.0.0.1:{rabbit.port}", f"{host}:{rabbit.tls_port}")
    link = Link(f"{url}?cafile={authority}", "a test")
    try:
        channel = await link.channel(confirms=True)
        await channel.close()
    finally:
        await link.close()


async def test_broker(rabbit: RabbitNode, vhost: Vhost, stranger: Certificates) -> None:
    """A broker is believed whose certificate the named authority signed for this host, and no other."""
    await spoken_to(rabbit, vhost, "127.0.0.1", rabbit.certificates.authority)
    for host, authority in (
        ("127.0.0.1", stranger.authority),
        ("localhost", rabbit.certificates.authority),
    ):
        with pytest.raises(NotReached, match="is not trusted: TLS failed"):
            await spoken_to(rabbit, vhost, host, authority)
