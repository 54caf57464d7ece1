"""What PostgreSQL keeps of a password (SCRAM-SHA-256, RFC 5802 and 7677), made where the password is."""

import base64
import hashlib
import hmac

_ITERATIONS = 4096  # PostgreSQL's own number; our passwords are random, and no dictionary has them
_SALT_BYTES = 16


def verifier(login: str, password: str) -> str:
    """Return the verifier of a login's password, which has to be ASCII; the same for the same, so that files stay."""
    secret = password.encode("ascii")
    salt = hashlib.pbkdf2_hmac("sha256", secret, b"twinlock.scram-salt:" + login.encode(), _ITERATIONS, _SALT_BYTES)
    salted = hashlib.pbkdf2_hmac("sha256", secret, salt, _ITERATIONS)
    stored = hashlib.sha256(_keyed(salted, b"Client Key")).digest()
    server = _keyed(salted, b"Server Key")
    return f"SCRAM-SHA-256${_ITERATIONS}:{_base64(salt)}${_base64(stored)}:{_base64(server)}"


def _keyed(key: bytes, what: bytes) -> bytes:
    return hmac.digest(key, what, "sha256")


def _base64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()
