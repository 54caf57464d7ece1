"""The settings of tokens are checked before a token is asked, and bring the adapter."""

from pathlib import Path

import pytest

from cli.settings import Settings, SettingsFault, load_settings
from cli.wiring import vendors
from cli.wiring.vendors import Pkcs11
from twinlock.clock import ManualClock
from twinlock.errors import TwinlockError
from twinlock.vaults.pkcs11.vault import Pkcs11Vault

GOOD = """
[pkcs11]
deadline = 2.5
[pkcs11.tokens."Contoso HSM"]
module = "/usr/lib/library.so"
pin_file = "contoso-pin"
serial = "0123"
environment = { CONF = "/etc/library.conf" }
"""
BAD = {
    '[pkcs11.tokens.a]\nmodule = "library.so"\npin_file = "pin"': "tokens: 'a' needs module, the full path",
    '[pkcs11.tokens.a]\nmodule = "/library.so"': "tokens: 'a' needs pin_file",
    '[pkcs11.tokens."a "]\nmodule = "/library.so"\npin_file = "pin"': "can't be the label of a token",
    '[pkcs11.tokens.a]\nmodule = "/library.so"\npin = "hunter2"': "is not a setting",
    "[pkcs11]\ndeadline = -1.0": "deadline has to be 0 or more",
}


def settings_of(folder: Path, text: str) -> Settings:
    """Read the settings of a home."""
    (folder / "twinlock.toml").write_text(text)
    return load_settings(folder)


async def test_good(tmp_path: Path, clock: ManualClock) -> None:
    """A token that is named brings the adapter, which serves its key and no other's."""
    settings = settings_of(tmp_path, GOOD)
    token = settings.pkcs11.tokens["Contoso HSM"]
    vault = Pkcs11().load(settings, clock)

    assert (2.5, "0123", {"CONF": "/etc/library.conf"}) == (settings.pkcs11.deadline, token.serial, token.environment)
    assert Pkcs11().is_set(settings)
    assert isinstance(vault, Pkcs11Vault)
    assert "pkcs11:token=Contoso%20HSM" == vault.locate("pkcs11:token=Contoso%20HSM;object=root").vault_uri
    await vault.close()


@pytest.mark.parametrize("text", BAD)
def test_bad(text: str, tmp_path: Path) -> None:
    """What can't reach a token is refused by name, and no value is shown."""
    with pytest.raises(SettingsFault) as caught:
        settings_of(tmp_path, text)

    assert BAD[text] in caught.value.detail
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"


def test_not_installed(tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without python-pkcs11 the refusal says what to install."""
    monkeypatch.setattr(vendors, "find_spec", lambda name: None)
    with pytest.raises(TwinlockError) as caught:
        Pkcs11().load(settings_of(tmp_path, GOOD), clock)

    assert "install it with: pip install 'twinlock[pkcs11]'" == caught.value.hint
