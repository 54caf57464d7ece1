"""Key URIs of the form `bao+https://HOST:PORT/MOUNT/keys/NAME`.

A mount may have several parts, the first of which may be namespaces. The port is always there, and a host has no
capital letter: one server has one text. Names are the customer's, and keep their capitals.
"""

import re
from ipaddress import IPv6Address

from twinlock.vaults.administration import BadKeyUri
from twinlock.vaults.uris import KeyUri, scheme_of, shown

HTTPS, HTTP = "bao+https", "bao+http"

_KEYS = "/keys/"
_MOST_CHARACTERS = 400
_HINT = "a key in OpenBao looks like bao+https://HOST:PORT/MOUNT/keys/NAME"
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_IPV6 = re.compile(r"\[([0-9a-f:.]+)\]")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_PART = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,126}[A-Za-z0-9_])?")


def parse_bao_uri(uri: str, allow_http: bool = False) -> KeyUri:
    """Split a URI into scheme, `HOST:PORT` and `MOUNT/keys/NAME`, or raise BadKeyUri."""
    scheme = scheme_of(uri)
    if scheme not in (HTTPS, HTTP) or not uri.startswith(f"{scheme}://"):
        raise BadKeyUri(f"{shown(uri)} is not a key in OpenBao", hint=_HINT)
    if scheme == HTTP and not allow_http:
        raise BadKeyUri(
            f"{shown(uri)} would send keys in the clear",
            hint="use bao+https, or for development set openbao.allow_http",
        )
    server, _, key = uri[len(scheme) + 3 :].partition("/")
    mount, _, name = key.rpartition(_KEYS)
    if len(uri) > _MOST_CHARACTERS or not all(map(_PART.fullmatch, [*mount.split("/"), name])):
        raise BadKeyUri(f"{shown(uri)} does not name one key", hint=_HINT)
    return KeyUri(scheme, check_server(server), key)


def check_server(server: str) -> str:
    """Return a canonical `HOST:PORT`, or raise BadKeyUri."""
    host, _, port = server.rpartition(":")
    if not _PORT.fullmatch(port) or int(port) > 65535 or not _is_host(host):
        lower = server.lower()
        hint = f"write {lower}" if lower != server and _is_host(lower.rpartition(":")[0]) else _HINT
        raise BadKeyUri(f"{shown(server)} is not HOST:PORT", hint=hint)
    return server


def operation_path(key: KeyUri, operation: str) -> str:
    """Return the path of a request about a key: `keys`, `encrypt` or `decrypt`."""
    mount, _, name = key.key.rpartition(_KEYS)
    return f"{mount}/{operation}/{name}"


def base_url(key: KeyUri) -> str:
    """Return the URL below which a key's server answers."""
    return f"{'https' if key.scheme == HTTPS else 'http'}://{key.vault}/v1/"


def _is_host(host: str) -> bool:
    found = _IPV6.fullmatch(host)
    if found is None:
        return len(host) <= 253 and _HOST.fullmatch(host) is not None
    try:
        return str(IPv6Address(found[1])) == found[1]
    except ValueError:
        return False
