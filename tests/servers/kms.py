"""A private AWS KMS with STS: moto, and what it leaves out (see moto_kms.py)."""

import json
import sys
import time
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from tests.servers.process import Process, free_ports

ACCOUNT = "123456789012"  # moto's own, of whoever has not taken on a role
_MOTO = Path(__file__).with_name("moto_kms.py")
_BOOT_SECONDS = 60.0


class Kms:
    """Hold one running server, and be the owner of its keys."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "kms.log"
        (self.port,) = free_ports(1)
        # isolated: the folder of this script is no place to import from
        self.process = Process([sys.executable, "-I", str(_MOTO), str(self.port)], self._log, {})

    @property
    def endpoint(self) -> str:
        """Return its URL."""
        return f"http://127.0.0.1:{self.port}"

    def until_it_answers(self) -> None:
        """Wait until it takes requests."""
        until = time.monotonic() + _BOOT_SECONDS
        while True:
            try:
                self.api("us-east-1", "ListKeys")
                return
            except OSError:
                if time.monotonic() > until or not self.process.running:
                    raise RuntimeError(f"moto does not start: {self._log.read_text()[-2000:]}") from None
                time.sleep(0.1)

    def api(self, region: str, operation: str, *, signer: str = "us", **parameters: Any) -> Any:
        """Call KMS as the owner of an account; it takes any signature, and reads account and region from it."""
        signed = f"Credential={signer}/20260101/{region}/kms/aws4_request, SignedHeaders=host, Signature=any"
        headers = {
            "Authorization": f"AWS4-HMAC-SHA256 {signed}",
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Target": f"TrentService.{operation}",
        }
        request = Request(self.endpoint, json.dumps(parameters).encode(), headers)  # noqa: S310  # our own server
        try:
            with urlopen(request, timeout=30) as answer:  # noqa: S310  # our own server
                return json.load(answer)
        except HTTPError as refused:
            with refused:
                raise ValueError(f"{operation}: {refused.read().decode()}") from None

    def signer(self, account: str) -> str:
        """Return whose signature stands for another account: that of a session there."""
        wanted = {"Action": "AssumeRole", "Version": "2011-06-15", "RoleSessionName": "owner"}
        body = urlencode(wanted | {"RoleArn": f"arn:aws:iam::{account}:role/owner"}).encode()
        signed = "Credential=us/20260101/us-east-1/sts/aws4_request, SignedHeaders=host, Signature=any"
        request = Request(self.endpoint, body, {"Authorization": f"AWS4-HMAC-SHA256 {signed}"})  # noqa: S310  # ours
        with urlopen(request, timeout=30) as answer:  # noqa: S310  # our own server
            return str(answer.read().decode().partition("<AccessKeyId>")[2].partition("<")[0])


def start_kms(folder: Path) -> Kms:
    """Start one."""
    server = Kms(folder)
    try:
        server.until_it_answers()
    except BaseException:
        server.process.kill()
        raise
    return server
