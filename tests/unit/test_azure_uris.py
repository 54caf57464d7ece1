"""URIs of keys in Azure are read strictly: they come from tenants, and say which host we talk to."""

import pytest

from twinlock.vaults.administration import BadKeyUri
from twinlock.vaults.azure.uris import parse_azure_uri

GOOD = {
    "https://contoso-a.vault.azure.net/keys/root": "https://contoso-a.vault.azure.net/keys/root",
    "https://Contoso-A.vault.azure.net/keys/RootKey": "https://contoso-a.vault.azure.net/keys/rootkey",
    "https://contoso.managedhsm.azure.net/keys/r": "https://contoso.managedhsm.azure.net/keys/r",
    "https://contoso.vault.azure.cn/keys/root-2": "https://contoso.vault.azure.cn/keys/root-2",
    "https://contoso.vault.usgovcloudapi.net/keys/2": "https://contoso.vault.usgovcloudapi.net/keys/2",
    "https://127.0.0.1:8443/keys/root": "https://127.0.0.1:8443/keys/root",
}
BAD = [
    "https://vault.azure.net/keys/root",
    "https://a.b.vault.azure.net/keys/root",
    "https://contoso.privatelink.vaultcore.azure.net/keys/root",
    "https://contoso.vault.azure.net.example.com/keys/root",
    "https://evilvault.azure.net/keys/root",
    "https://contoso.vault.azure.net:443/keys/root",
    "https://contoso.vault.azure.net:8443/keys/root",
    "https://contoso.vault.azure.net./keys/root",
    "https://user@contoso.vault.azure.net/keys/root",
    "https://169.254.169.254/keys/root",
    "https://127.0.0.1:8444/keys/root",
    "https://localhost/keys/root",
    "https://example.com\\.vault.azure.net/keys/root",
    "https://example.com#.vault.azure.net/keys/root",
    "https://example.com?.vault.azure.net/keys/root",
    "https://con--toso.vault.azure.net/keys/root",
    "https://1contoso.vault.azure.net/keys/root",
    "https://co\u212atoso.vault.azure.net/keys/root",
    "https://contoso.vault.azure.net/keys/",
    "https://contoso.vault.azure.net/keys/root/",
    "https://contoso.vault.azure.net/secrets/root",
    "https://contoso.vault.azure.net/keys/root/wrapkey",
    "https://contoso.vault.azure.net/keys/..",
    "https://contoso.vault.azure.net/keys/a%2fb",
    "https://contoso.vault.azure.net/keys/root?api-version=1",
    "https://contoso.vault.azure.net/keys/root#x",
    "https://contoso.vault.azure.net/keys/root\n",
    "https://contoso.vault.azure.net//keys/root",
    f"https://contoso.vault.azure.net/keys/{'k' * 128}",
    "http://contoso.vault.azure.net/keys/root",
    "bao+https://contoso.vault.azure.net/keys/root",
]


@pytest.mark.parametrize("uri", GOOD)
def test_good(uri: str) -> None:
    """A key of a vault of Azure's, or of a host that the settings name, has one text, which is read as itself."""
    found = parse_azure_uri(uri, {"127.0.0.1:8443"})

    assert GOOD[uri] == str(found) == str(parse_azure_uri(str(found), {"127.0.0.1:8443"}))
    assert found.vault_uri == str(found).rpartition("/keys/")[0]


@pytest.mark.parametrize("uri", BAD)
def test_bad(uri: str) -> None:
    """Nothing else is asked for anything, and why is told."""
    with pytest.raises(BadKeyUri) as caught:
        parse_azure_uri(uri, {"127.0.0.1:8443"})

    assert caught.value.hint
    assert caught.value.detail.isprintable()


def test_version() -> None:
    """A URI with a version is refused, and the one without it is told."""
    uri = "https://contoso.vault.azure.net/keys/root"
    with pytest.raises(BadKeyUri) as caught:
        parse_azure_uri(f"{uri}/{'0a' * 16}")

    assert caught.value.hint is not None
    assert caught.value.hint.endswith(f": {uri}")
