"""The ARN of a key is read strictly, and so is that of an availability key's alias."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinlock.vaults.administration import BadKeyUri
from twinlock.vaults.aws.uris import parse_alias_arn, parse_key_arn

ID = "1234abcd-12ab-34cd-56ef-1234567890ab"
GOOD = [
    f"arn:aws:kms:eu-central-1:111122223333:key/{ID}",
    f"arn:aws-cn:kms:cn-north-1:111122223333:key/{ID}",
    f"arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/{ID}",
    f"arn:aws-eusc:kms:eusc-de-east-1:111122223333:key/{ID}",
    "arn:aws:kms:us-east-2:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab",
]
BAD = [
    "",
    "arn:aws:kms",
    ID,
    f"arn:aws:kms:eu-central-1:111122223333:{ID}",
    f"arn:aws:kms:eu-central-1:11112222333:key/{ID}",
    f"arn:aws:kms:eu-central-1:111122223333:key/{ID}\n",
    f"arn:aws:kms:eu-central-1:111122223333:key/{ID}/x",
    f"arn:aws:kms:eu-central-1:111122223333:key/{ID.upper()}",
    f"arn:aws:kms::111122223333:key/{ID}",
    f"arn:aws:s3:eu-central-1:111122223333:key/{ID}",
    f"arn:google:kms:eu-central-1:111122223333:key/{ID}",
    "arn:aws:kms:eu-central-1:111122223333:key/mrk-1234",
    "arn:aws:kms:eu-central-1:111122223333:alias/root",
    f"arn:aws:kms:eu-central-1:{'1' * 12}\u0661:key/{ID}",
]


@pytest.mark.parametrize("uri", GOOD)
def test_good(uri: str) -> None:
    """A key's ARN is its own canonical text; account and region are the vault."""
    found = parse_key_arn(uri)

    assert uri == str(found)
    assert uri.rpartition(":")[0] == found.vault_uri


@pytest.mark.parametrize("uri", BAD)
def test_bad(uri: str) -> None:
    """Everything else is refused with a hint."""
    with pytest.raises(BadKeyUri) as caught:
        parse_key_arn(uri)

    assert caught.value.hint
    assert caught.value.detail.isprintable()


def test_alias() -> None:
    """An alias is no root key, since it can be made to point elsewhere, and the hint says what to write."""
    with pytest.raises(BadKeyUri, match="is an alias") as caught:
        parse_key_arn("arn:aws:kms:eu-central-1:111122223333:alias/root")

    assert "the ARN that aws kms describe-key shows" in (caught.value.hint or "")


@pytest.mark.parametrize("name", ["", "aws/s3", "a b", "/a", "a" * 202, "a:b"])
def test_bad_alias(name: str) -> None:
    """An availability key has an alias of our own, and none that KMS would refuse."""
    with pytest.raises(BadKeyUri):
        parse_alias_arn(f"arn:aws:kms:eu-central-1:111122223333:alias/{name}")


def test_own_alias() -> None:
    """An availability key is named by its alias, and never by an ARN that KMS chose."""
    found = parse_alias_arn("arn:aws:kms:eu-central-1:111122223333:alias/availability-1")

    assert ("alias/availability-1", "arn:aws:kms:eu-central-1:111122223333") == (found.alias, found.vault_uri)
    with pytest.raises(BadKeyUri):
        parse_alias_arn(GOOD[0])


@given(st.text(max_size=30), st.text(max_size=50))
def test_any_text(region: str, resource: str) -> None:
    """Any text is either canonical or refused."""
    uri = f"arn:aws:kms:{region}:111122223333:{resource}"
    for parse in (parse_key_arn, parse_alias_arn):
        try:
            assert uri == str(parse(uri))
        except BadKeyUri:
            continue
