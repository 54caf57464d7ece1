"""The demo takes a customer's logins to two servers of OpenBao, and nothing less."""

from pathlib import Path

import pytest

from cli.demo import story
from cli.demo.servers import Customer
from twinlock.errors import TwinlockError

_SERVER = '[servers."vault-{}:8200"]\nrole_id = "customer"\nsecret_id_file = "secret"\n'


def test_read(tmp_path: Path) -> None:
    """Files without a full path lie beside the one that names them."""
    file = tmp_path / "vaults.toml"
    file.write_text(_SERVER.format(1) + _SERVER.format(2))
    customer = Customer.read(file)

    assert ["vault-1:8200", "vault-2:8200"] == list(customer.settings.servers)
    assert tmp_path == customer.folder


@pytest.mark.parametrize(
    "text",
    [
        "",
        _SERVER.format(1),
        "".join(map(_SERVER.format, range(3))),
        (_SERVER.format(1) + _SERVER.format(2)).replace("secret_id_file", "secret_id"),
        _SERVER.format(1) + '[servers."vault-2:8200"]\nrole_id = "customer"\n',
        "no TOML",
        None,
    ],
)
def test_refused(tmp_path: Path, text: str | None) -> None:
    """Anything else is refused, and the file named."""
    file = tmp_path / "vaults.toml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(TwinlockError) as refused:
        Customer.read(file)

    assert f"{file} does not hold a customer's logins" in str(refused.value)


def test_nobody_to_serve(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a fleet nobody has the provider's logins to these servers, which is said before anything is told."""
    for name in ("BROKER", "SECRETS"):
        monkeypatch.delenv(f"TWINLOCK_{name}", raising=False)
    code = story.run(None, lambda arguments, flags: 1, customer=tmp_path / "vaults.toml")
    out, err = capfd.readouterr()

    assert (2, "") == (code, out)
    assert "only a fleet has the provider's side" in err
