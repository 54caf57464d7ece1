"""What answers for a key is read off its URI, whatever the vendor's form."""

import pytest

from twinlock.keys.uris import key_at, name_of, vault_of
from workers.dep_assigner.checks import check_pair


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
    assert expected == vault_of(uri)


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
    assert vault == vault_of(uri)
    assert "availability-1" == name_of(uri)


@pytest.mark.parametrize(
    ("uris", "refused"),
    [
        (("arn:aws:kms:eu-west-1:1:key/mrk-7", "arn:aws:kms:us-east-1:1:key/mrk-7"), ["two-keys"]),
        (("arn:aws:kms:eu-west-1:1:key/mrk-7", "arn:aws:kms:us-east-1:1:key/mrk-8"), []),
        (("arn:aws:kms:eu-west-1:1:key/7", "arn:aws:kms:eu-west-1:1:key/8"), ["two-vaults"]),
        (("arn:aws:kms:eu-west-1:1:key/7", "local://right/key"), []),
    ],
)
def test_pair(uris: tuple[str, str], refused: list[str]) -> None:
    """Copies of one multi-region key are one key, and keys of one account in one region lie in one vault."""
    assert refused == [each.check for each in check_pair(uris)]
