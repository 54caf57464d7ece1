"""What answers for a key is read off its URI, whatever the vendor's form."""

import pytest

from twinlock.keys.authority import authority, key_at, name_of


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


@pytest.mark.parametrize(
    ("vault", "uri"),
    [
        ("local://provider", "local://provider/availability-1"),
        ("pkcs11:token=provider", "pkcs11:token=provider;object=availability-1"),
        ("arn:aws:kms:eu-west-1:111122223333", "arn:aws:kms:eu-west-1:111122223333:alias/availability-1"),
        ("https://ours.vault.azure.net", "https://ours.vault.azure.net/keys/availability-1"),
    ],
)
def test_key_at(vault: str, uri: str) -> None:
    """A key that we name ourselves lies in the vault, under its name."""
    assert uri == key_at(vault, "availability-1")
    assert vault == authority(uri)
    assert "availability-1" == name_of(uri)
