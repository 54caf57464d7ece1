"""Private object stores of clouds, each with one bucket: moto answers as S3, Azurite as Azure Blob."""

import base64
import hashlib
import hmac
import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from email.utils import formatdate
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from tests.servers.process import Process, free_ports
from tests.servers.rabbitmq import ServerMissing

BUCKET = "objects"
_MOTO = Path(sys.executable).with_name("moto_server")
_AZURITE = Path(__file__).parents[2] / ".servers" / "node_modules" / ".bin" / "azurite-blob"
_BOOT_SECONDS = 60.0
_VERSION = "2021-12-02"


class Cloud:
    """Hold one running store; `settings` go behind the bucket in its URL."""

    def __init__(self, scheme: str, port: int, process: Process, settings: Mapping[str, str]) -> None:
        self.port = port
        self.endpoint = f"http://127.0.0.1:{port}"
        self.process = process
        self._scheme = scheme
        self._settings = {"allow_http": "true", **settings}

    def url(self, bucket: str = BUCKET, **changed: str) -> str:
        """Return the URL of a bucket as the settings take it."""
        return f"{self._scheme}://{bucket}/some/where?{urlencode(self._settings | changed)}"

    def until_it_answers(self, log: Path) -> None:
        """Wait until it takes requests."""
        until = time.monotonic() + _BOOT_SECONDS
        while not self._answers():
            if time.monotonic() > until or not self.process.running:
                raise RuntimeError(f"the store does not start: {log.read_text()[-2000:]}")
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            with urlopen(self.endpoint, timeout=5):  # noqa: S310  # our own server
                return True
        except HTTPError:
            return True  # it refuses those who don't sign
        except OSError:
            return False


def start_s3(folder: Path) -> Cloud:
    """Start moto's server."""
    (port,) = free_ports(1)
    log = folder / "moto.log"
    process = Process([str(_MOTO), "-H", "127.0.0.1", "-p", str(port)], log, {})
    settings = {"endpoint": f"http://127.0.0.1:{port}", "region": "us-east-1"}
    cloud = Cloud("s3", port, process, settings | {"access_key_id": "us", "secret_access_key": secrets.token_hex(8)})
    # It takes any signature, and reads the region from it.
    signed = "AWS4-HMAC-SHA256 Credential=us/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=any"
    return _with_bucket(cloud, log, f"{cloud.endpoint}/{BUCKET}", {"Authorization": signed})


def start_azure(folder: Path) -> Cloud:
    """Start Azurite with an account of its own."""
    if not _AZURITE.exists():
        raise ServerMissing("Azurite is missing: run make servers")
    (port,) = free_ports(1)
    log, account, key = folder / "azurite.log", "tenants", base64.b64encode(secrets.token_bytes(32)).decode()
    command = [str(_AZURITE), "--blobPort", str(port), "--location", str(folder), "--disableTelemetry", "--silent"]
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "AZURITE_ACCOUNTS": f"{account}:{key}"}
    settings = {"endpoint": f"http://127.0.0.1:{port}/{account}", "account_name": account, "account_key": key}
    cloud = Cloud("az", port, Process(command, log, environment), settings)
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": _VERSION}
    headers["Authorization"] = f"SharedKey {account}:{_signature(account, key, headers)}"
    return _with_bucket(cloud, log, f"{settings['endpoint']}/{BUCKET}?restype=container", headers)


def _with_bucket(cloud: Cloud, log: Path, address: str, headers: Mapping[str, str]) -> Cloud:
    try:
        cloud.until_it_answers(log)
        asked = Request(address, data=b"", method="PUT", headers=dict(headers) | {"Content-Type": ""})  # noqa: S310  # ours
        with urlopen(asked, timeout=10):  # noqa: S310  # our own server
            return cloud
    except BaseException:
        cloud.process.kill()
        raise


def _signature(account: str, key: str, headers: Mapping[str, str]) -> str:
    # "Authorize with Shared Key" of the Blob service: eleven standard headers, all empty here, then ours.
    named: Sequence[str] = [f"{name}:{headers[name]}" for name in sorted(headers)]
    resource = [f"/{account}/{account}/{BUCKET}", "restype:container"]
    text = "\n".join(["PUT", *[""] * 11, *named, *resource])
    return base64.b64encode(hmac.digest(base64.b64decode(key), text.encode(), hashlib.sha256)).decode()
