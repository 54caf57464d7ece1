"""What answers for a key is read off its URI, whatever the vendor's form."""

import pytest

from twinlock.keys.authority import authority


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("local://contoso-1/root", "local://contoso-1"),
        ("bao+https://bao.example:8200/ns/transit/keys/root", "bao+https://bao.example:8200"),
        ("https://contoso.vault.azure.net/keys/root", "https://contoso.vault.azure.net"),
        ("arn:aws:kms:eu-west-1:111122223333:key/mrk-1", "arn:aws:kms:eu-west-1:111122223333"),
        ("pkcs11:token=contoso;object=root", "pkcs11:token=contoso"),
    ],
)
def test_authority(uri: str, expected: str) -> None:
    """Breakers, rate limits, hedges and prices go by this name."""
    assert expected == authority(uri)
