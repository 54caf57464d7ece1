"""The settings of accounts at AWS: their faults, which of them counts, and docs/vaults/aws.md, which tells of each."""

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from cli.settings import SettingsFault, load_settings
from twinlock.vaults.aws.settings import AwsAccount, AwsSettings

PAGE = (Path(__file__).parents[2] / "docs" / "vaults" / "aws.md").read_text(encoding="utf-8")
ROLE = "arn:aws:iam::111122223333:role/a/twinlock"


@pytest.mark.parametrize(
    "good",
    [{}, {"role_arn": ROLE}, {"role_arn": ROLE, "external_id": "x-1"}, {"endpoint": "https://vpce-1.kms.example:8443"}],
)
def test_good_account(good: dict[str, str]) -> None:
    """A role, with or without an external id, and a private endpoint are all that an account takes."""
    assert [] == AwsAccount(**good).faults(allow_http=False)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"role_arn": "twinlock"}, "role_arn that is not arn:aws:iam::ACCOUNT:role/NAME"),
        ({"role_arn": ROLE.replace("role", "user")}, "role_arn that is not"),
        ({"role_arn": ROLE, "external_id": "a b"}, "external_id that STS would not take"),
        ({"external_id": "x-1"}, "external_id without a role_arn"),
        ({"endpoint": "kms.example"}, "endpoint that is not https://HOST"),
        ({"sts_endpoint": "https://us:hunter2@sts.example"}, "sts_endpoint that is not https://HOST"),
        ({"endpoint": "http://kms.example"}, "endpoint that would send keys in the clear"),
    ],
)
def test_bad_account(bad: dict[str, str], said: str) -> None:
    """What is wrong with an account is said, and never with its value."""
    (found,) = AwsAccount(**bad).faults(allow_http=False)

    assert said in found
    assert "hunter2" not in found


@pytest.mark.parametrize(
    "bad", [{"accounts": {"contoso": AwsAccount()}}, {"session_name": "a b"}, {"session_seconds": 60}]
)
def test_bad_settings(bad: dict[str, Any]) -> None:
    """An account that is none, and a session that STS would not give, are refused."""
    assert 1 == len(AwsSettings(**bad).faults)


def test_region_counts_first() -> None:
    """The settings of one region of an account win over those of all of it."""
    one, all_ = AwsAccount(endpoint="https://one"), AwsAccount(endpoint="https://all")
    settings = AwsSettings(accounts={"111122223333": all_, "111122223333/eu-west-1": one})
    found = [settings.account("111122223333", region) for region in ("eu-west-1", "eu-west-2")]

    assert [one, all_, None] == [*found, settings.account("444455556666", "eu-west-1")]


def test_whose_role() -> None:
    """A role of the key's account is told from one of ours."""
    assert AwsAccount(role_arn=ROLE).owns_role("111122223333")
    assert not AwsAccount(role_arn=ROLE).owns_role("444455556666")
    assert not AwsAccount().owns_role("111122223333")


def test_read(tmp_path: Path) -> None:
    """Accounts are read from the file; an external id is not shown, and faults are told together."""
    text = (
        f'[aws]\ncredentials_file = "aws"\n[aws.accounts.111122223333]\nrole_arn = "{ROLE}"\nexternal_id = "hunter2"\n'
    )
    (tmp_path / "twinlock.toml").write_text(text)
    found = load_settings(tmp_path)
    (tmp_path / "twinlock.toml").write_text(f'{text}endpoint = "x"\n[aws.accounts.contoso]\n')
    with pytest.raises(SettingsFault) as caught:
        load_settings(tmp_path)

    assert ROLE == found.aws.accounts["111122223333"].role_arn
    assert "hunter2" not in repr(found)
    assert "accounts: '111122223333' has an endpoint" in caught.value.detail
    assert "accounts: 'contoso' is not NUMBER or NUMBER/REGION" in caught.value.detail


def test_page() -> None:
    """Every setting of an account, and every one for all of them with its default, has its row."""
    rows = re.findall(r"^\| (`[^|]+) \|", PAGE, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    defaults = {each.name: each.default for each in fields(AwsSettings) if each.name != "accounts"}

    assert named == {each.name for each in fields(AwsAccount)} | set(defaults)
    for name, default in defaults.items():
        shown = "" if default is None else f"{default} ".lower()
        assert f"| `{name}` | {shown}| " in PAGE
