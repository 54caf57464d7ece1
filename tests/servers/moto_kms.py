"""Run moto with what its KMS leaves out: `python moto_kms.py PORT`.

Left as it is, moto encrypts and decrypts under disabled and deleted keys, and under those whose policy denies it, calls
it a lack of permission when a ciphertext is another key's, gives a key no usage that is made without one, deletes none
by its ARN, and has a form of its own for the ids of multi-region keys. Here it answers as AWS documents. It also lets a
test choose a key's id, by a description that is one, and so make a key again under its ARN, which of real keys only
replicas can do.
"""

import json
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

from moto.core.exceptions import JsonRESTError
from moto.kms import utils
from moto.kms.models import Key, KmsBackend
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.test import Client

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|mrk-[0-9a-f]{32}")
_create, _encrypt, _decrypt = KmsBackend.create_key, KmsBackend.encrypt, KmsBackend.decrypt
_schedule = KmsBackend.schedule_key_deletion


def create_key(backend: KmsBackend, *arguments: Any, **options: Any) -> Key:
    key = _create(backend, *arguments, **options)
    key.key_usage = key.key_usage or "ENCRYPT_DECRYPT"
    wanted = f"mrk-{uuid4().hex}" if key.multi_region else key.description
    if _ID.fullmatch(wanted):
        del backend.keys[key.id]
        key.arn, key.id = key.arn.replace(key.id, wanted), wanted
        backend.keys[key.id] = key
    return key


def encrypt(backend: KmsBackend, key_id: str, plaintext: bytes, encryption_context: dict[str, str]) -> Any:
    _check(backend, key_id, "kms:Encrypt")
    return _encrypt(backend, key_id, plaintext, encryption_context)


def decrypt(backend: KmsBackend, ciphertext_blob: bytes, encryption_context: dict[str, str], key_id: str) -> Any:
    _check(backend, key_id, "kms:Decrypt")
    try:
        made_by = utils._deserialize_ciphertext_blob(ciphertext_blob).key_id
    except Exception:  # noqa: BLE001 - whatever moto's parser stumbles over
        raise _error("InvalidCiphertextException", "") from None
    if made_by in backend.keys and made_by != backend.any_id_to_key_id(key_id):
        raise _error("IncorrectKeyException", "The key ID in the request does not identify a CMK that can perform this")
    if made_by not in backend.keys:
        raise _error("InvalidCiphertextException", "")
    return _decrypt(backend, ciphertext_blob, encryption_context, key_id)


def schedule_key_deletion(backend: KmsBackend, key_id: str, pending_window_in_days: int) -> float:
    return _schedule(backend, backend.get_key_id(key_id), pending_window_in_days)


def _check(backend: KmsBackend, key_id: str, action: str) -> None:
    key = backend.describe_key(key_id)
    if any(each["Effect"] == "Deny" and action in each["Action"] for each in json.loads(key.policy)["Statement"]):
        who = f"User: arn:aws:iam::{key.account_id}:user/us is not authorized to perform: {action}"
        raise _error(
            "AccessDeniedException", f"{who} on resource: {key.arn} with an explicit deny in a resource-based policy"
        )
    if key.key_state == "Disabled":
        raise _error("DisabledException", f"{key.arn} is disabled.")
    if key.key_state == "PendingDeletion":
        raise _error("KMSInvalidStateException", f"{key.arn} is pending deletion.")


def _error(code: str, message: str) -> JsonRESTError:
    error = JsonRESTError(code, message)
    error.code = 400
    return error


class Handler(BaseHTTPRequestHandler):
    """Hand requests to moto, and keep connections, as AWS does; moto's own server closes each."""

    protocol_version = "HTTP/1.1"
    wbufsize = 65536  # head and body in one packet: else each answer waits for the kernel
    moto: Any

    def do_POST(self) -> None:
        """Answer a request."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer = Client(self.moto).post(self.path, data=body, headers=dict(self.headers))
        content = answer.get_data()
        self.send_response(answer.status_code)
        for name, value in answer.headers.items():
            if name.lower() != "content-length":
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


if __name__ == "__main__":
    for change in (create_key, encrypt, decrypt, schedule_key_deletion):
        setattr(KmsBackend, change.__name__, change)
    Handler.moto = DomainDispatcherApplication(create_backend_app)
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
