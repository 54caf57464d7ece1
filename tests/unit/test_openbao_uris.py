"""URIs of keys in OpenBao are read strictly, and name one server."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinlock.vaults.administration import BadKeyUri
from twinlock.vaults.openbao.uris import base_url, check_server, operation_path, parse_bao_uri

GOOD = [
    "bao+https://vault.example:8200/transit/keys/root",
    "bao+https://vault.example:8200/contoso/eu/transit/keys/Root_2030.a",
    "bao+https://127.0.0.1:1/t/keys/k",
    "bao+https://[2001:db8::1]:65535/t/keys/k",
    "bao+https://v:8200/keys/keys/keys",
]
BAD = [
    "bao+https://vault.example/transit/keys/root",
    "bao+https://vault.example:0/transit/keys/root",
    "bao+https://vault.example:08200/transit/keys/root",
    "bao+https://vault.example:65536/transit/keys/root",
    "bao+https://:8200/transit/keys/root",
    "bao+https://Vault.example:8200/transit/keys/root",
    "bao+https://vault_1.example:8200/transit/keys/root",
    "bao+https://-vault.example:8200/transit/keys/root",
    "bao+https://vault..example:8200/transit/keys/root",
    "bao+https://user:secret@vault.example:8200/transit/keys/root",
    "bao+https://[2001:DB8::1]:8200/transit/keys/root",
    "bao+https://[2001:db8:0::1]:8200/transit/keys/root",
    "bao+https://[::1:8200/transit/keys/root",
    "bao+https://vault.example:8200/transit/root",
    "bao+https://vault.example:8200/keys/root",
    "bao+https://vault.example:8200//keys/root",
    "bao+https://vault.example:8200/transit/keys/",
    "bao+https://vault.example:8200/transit/keys/root/",
    "bao+https://vault.example:8200/transit/keys/root/rotate",
    "bao+https://vault.example:8200/../sys/keys/root",
    "bao+https://vault.example:8200/transit/keys/..",
    "bao+https://vault.example:8200/transit/keys/a%2fb",
    "bao+https://vault.example:8200/transit/keys/root?x=1",
    "bao+https://vault.example:8200/transit/keys/root#x",
    "bao+https://vault.example:8200/transit/keys/r\u00f6\u00f6t",
    "bao+https://vault.example:8200/transit/keys/root\n",
    f"bao+https://vault.example:8200/{'m' * 120}/{'m' * 120}/{'m' * 120}/keys/root",
    "bao://vault.example:8200/transit/keys/root",
    "https://vault.example:8200/transit/keys/root",
]


@pytest.mark.parametrize("uri", GOOD)
def test_good(uri: str) -> None:
    """A good URI is canonical as it stands, and so is its server."""
    found = parse_bao_uri(uri)

    assert uri == str(found)
    assert found.vault == check_server(found.vault)
    assert uri.startswith(found.vault_uri + "/")


@pytest.mark.parametrize("uri", BAD)
def test_bad(uri: str) -> None:
    """A bad URI is refused with a hint."""
    with pytest.raises(BadKeyUri) as caught:
        parse_bao_uri(uri)

    assert caught.value.hint
    assert caught.value.detail.isprintable()


def test_paths() -> None:
    """A key's operations lie beside it in its mount, namespaces included."""
    key = parse_bao_uri("bao+https://v:8200/eu/transit/keys/root")

    assert "https://v:8200/v1/" == base_url(key)
    assert ["eu/transit/keys/root", "eu/transit/decrypt/root"] == [
        operation_path(key, each) for each in ("keys", "decrypt")
    ]


def test_mount_named_keys() -> None:
    """The last part of that name parts the mount from the key."""
    assert "keys/keys/decrypt/k" == operation_path(parse_bao_uri("bao+https://v:1/keys/keys/keys/k"), "decrypt")


def test_in_the_clear() -> None:
    """HTTP is refused unless it is allowed."""
    uri = "bao+http://v:8200/transit/keys/root"
    with pytest.raises(BadKeyUri, match="in the clear"):
        parse_bao_uri(uri)

    assert "http://v:8200/v1/" == base_url(parse_bao_uri(uri, allow_http=True))


def test_capital_hint() -> None:
    """A host in capitals is not folded, and the hint shows the one that would do."""
    with pytest.raises(BadKeyUri) as caught:
        parse_bao_uri("bao+https://Vault.example:8200/transit/keys/root")

    assert "write vault.example:8200" == caught.value.hint


@given(st.text(max_size=50), st.text(max_size=50))
def test_any_text(server: str, path: str) -> None:
    """Any text is either canonical or refused."""
    uri = f"bao+https://{server}/{path}"
    try:
        found = parse_bao_uri(uri)
    except BadKeyUri:
        return
    assert uri == str(found)
