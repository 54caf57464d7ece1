"""Which vendors' adapters an installation opens, and which of them keep availability keys."""

from pathlib import Path

import pytest

from cli.settings import load_settings
from cli.wiring.vaults import open_vaults
from twinlock.clock import ManualClock
from twinlock.keys.ports import Misconfigured
from twinlock.vaults.administration import BadKeyUri

VAULT = "arn:aws:kms:eu-central-1:111122223333"
KEY, ALIAS = f"{VAULT}:key/1234abcd-12ab-34cd-56ef-1234567890ab", f"{VAULT}:alias/availability-1"


async def test_aws(tmp_path: Path, clock: ManualClock) -> None:
    """A root key at AWS is an ARN and an availability key an alias, each for its own adapter and for no other."""
    text = '[aws]\ncredentials_file = "none"\n[aws.accounts.111122223333]\nrole_arn = ""\n'
    (tmp_path / "twinlock.toml").write_text(text)
    async with open_vaults(load_settings(tmp_path), clock) as (directory, availability):
        raw = []
        for uri in (ALIAS, KEY):
            with pytest.raises(Misconfigured) as caught:
                await availability.describe(uri)
            raw.append(caught.value.raw)

        assert KEY == directory.canonical(KEY)
        assert ["no-identity none", "bad-uri"] == raw
        with pytest.raises(BadKeyUri, match="is an alias"):
            directory.canonical(ALIAS)


async def test_not_set_up(tmp_path: Path, clock: ManualClock) -> None:
    """A vendor that is not set up is told by what to set."""
    async with open_vaults(load_settings(tmp_path), clock) as (directory, availability):
        with pytest.raises(BadKeyUri) as refused:
            directory.canonical(KEY)
        with pytest.raises(Misconfigured, match="no vault that keeps availability keys"):
            await availability.describe(ALIAS)

    assert "name its account in aws.accounts" == refused.value.hint
