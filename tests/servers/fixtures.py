"""What tests ask for by name: servers of their own, one a worker process at most, started when first needed."""

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack

import pytest

from tests.servers.clouds import Cloud, start_azure, start_s3
from tests.servers.kms import Kms, start_kms
from tests.servers.openbao import OpenBao
from tests.servers.postgres import Postgres, migrate, run
from tests.servers.proxy import Proxy, proxied
from tests.servers.rabbitmq import RabbitNode, Vhost, started
from tests.servers.softhsm import SoftHsm

TEMPLATE = "migrated"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Start a private PostgreSQL cluster."""
    cluster = Postgres()
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(scope="session")
def postgres_template(postgres: Postgres) -> str:
    """Make a database that was migrated once: a copy of it takes half of the time."""
    run(migrate(postgres.create(TEMPLATE)))
    return TEMPLATE


@pytest.fixture(scope="session")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitNode]:
    """Start a private RabbitMQ node."""
    with started(tmp_path_factory.mktemp("rabbit")) as node:
        yield node


@pytest.fixture
def vhost(rabbit: RabbitNode) -> Iterator[Vhost]:
    """Make a virtual host for one test."""
    fresh = rabbit.vhost()
    yield fresh
    rabbit.drop(fresh)


@pytest.fixture
async def proxy(rabbit: RabbitNode) -> AsyncIterator[Proxy]:
    """Put a proxy before the node."""
    async with proxied(rabbit.port) as running:
        yield running


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """Start a private S3."""
    cloud = start_s3(tmp_path_factory.mktemp("s3"))
    yield cloud
    cloud.process.kill()


@pytest.fixture(scope="session")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """Start a private Azure Blob store."""
    cloud = start_azure(tmp_path_factory.mktemp("azure"))
    yield cloud
    cloud.process.kill()


@pytest.fixture(scope="session")
def kms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kms]:
    """Start a private AWS KMS."""
    server = start_kms(tmp_path_factory.mktemp("kms"))
    yield server
    server.process.kill()


@pytest.fixture(scope="session")
def openbaos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OpenBao, OpenBao]]:
    """Start two private OpenBao servers: the two vaults of a tenant."""
    with ExitStack() as stack:
        servers = [OpenBao(tmp_path_factory.mktemp("openbao")) for _ in range(2)]
        for server in servers:
            stack.callback(server.close)
            server.start()
        yield servers[0], servers[1]


@pytest.fixture
def openbao(openbaos: tuple[OpenBao, OpenBao]) -> OpenBao:
    """Bring one private OpenBao server."""
    return openbaos[0]


@pytest.fixture(scope="session")
def softhsm(tmp_path_factory: pytest.TempPathFactory) -> SoftHsm:
    """Make two private tokens: the two vaults of a tenant."""
    tokens = SoftHsm(tmp_path_factory.mktemp("softhsm"))
    tokens.start()
    return tokens
