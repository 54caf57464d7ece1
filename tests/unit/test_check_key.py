"""The URI of a root key is checked where a person types it, by its vendor's rules."""

from pathlib import Path

import pytest

from cli.settings import load_settings
from cli.wiring.vendors import check_key
from twinlock.vaults.administration import BadKeyUri

KEYS = {
    "local://contoso-1/root": "",
    "bao+https://v:8200/transit/keys/root": "",
    "pkcs11:token=first;object=root": "",
    "arn:aws:kms:eu-west-1:111122223333:key/0f8fad5b-d9cb-469f-a165-70867728950e": "",
    "https://contoso.vault.azure.net/keys/root": "",
    "local://A/root": "is not the name of a vault",
    "bao+http://v:8200/transit/keys/root": "in the clear",
    "pkcs11:token=first;object=root?pin-value=8675309": "may hold no PIN",
    "pkcs11:token=first;object=root;pin-value=8675309": "may hold no PIN",
    "arn:aws:kms:eu-west-1:111122223333:alias/root": "is an alias",
    "https://contoso.example/keys/root": "is not in a vault of Azure",
    "s3://bucket/root": "is no key of a kind that is known here",
    "root": "is not a key URI",
}


@pytest.mark.parametrize("uri", KEYS)
def test_check_key(uri: str, tmp_path: Path) -> None:
    """A person is told what is wrong with a key's URI before anybody is asked for it, whatever vaults are set up."""
    settings = load_settings(tmp_path)
    if not KEYS[uri]:
        check_key(uri, settings)
        return
    with pytest.raises(BadKeyUri) as caught:
        check_key(uri, settings)

    assert KEYS[uri] in caught.value.detail
    assert "8675309" not in f"{caught.value!r} {caught.value.hint}"
