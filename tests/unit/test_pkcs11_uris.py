"""URIs of keys on tokens are read strictly, name one token, and never hold a secret."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinlock.vaults.administration import BadKeyUri
from twinlock.vaults.pkcs11.classify import classify
from twinlock.vaults.pkcs11.uris import TokenKey, parse_pkcs11_uri

GOOD = {
    "pkcs11:token=first;object=root": ("first", "root"),
    "pkcs11:token=Contoso%20HSM;object=mail%2Feu": ("Contoso HSM", "mail/eu"),
    "pkcs11:token=a%3Bb;object=50%25%3D%3F": ("a;b", "50%=?"),
    "pkcs11:token=%C3%BC;object=a-b_c.d~e": ("\u00fc", "a-b_c.d~e"),
}
OTHERWISE = {
    "pkcs11:object=root;token=first": "pkcs11:token=first;object=root",
    "pkcs11:token=first;object=root;type=secret-key": "pkcs11:token=first;object=root",
    "pkcs11:token=%66irst;object=root": "pkcs11:token=first;object=root",
    "pkcs11:token=a:b;object=root": "pkcs11:token=a%3Ab;object=root",
    "pkcs11:token=a%3ab;object=root": "pkcs11:token=a%3Ab;object=root",
}
BAD = [
    "pkcs11:",
    "pkcs11:token=first",
    "pkcs11:object=root",
    "pkcs11:token=;object=root",
    "pkcs11:token=first;object=",
    "pkcs11:token=first;token=first;object=root",
    "pkcs11:token=first;object=root;type=private",
    "pkcs11:token=first;object=root;id=%01",
    "pkcs11:token=first;serial=1;object=root",
    "pkcs11:token=first;object=root;",
    "pkcs11:token=fi rst;object=root",
    "pkcs11:token=first;object=r%zz",
    "pkcs11:token=first;object=r%C3",
    "pkcs11:token=first;object=r%00",
    "pkcs11:token=first;object=r%0A",
    "pkcs11:token=first%20;object=root",
    "pkcs11:token=first;object=r\u00f6\u00f6t",
    f"pkcs11:token={'t' * 33};object=root",
    f"pkcs11:token=first;object={'r' * 400}",
    "PKCS11:token=first;object=root",
    "pkcs11//token=first;object=root",
]
SECRET = "8675309"
ASKING = [f"pin-value={SECRET}", "pin-source=file:/etc/pin", "module-path=/tmp/x.so", "module-name=x"]


@pytest.mark.parametrize("uri", GOOD)
def test_good(uri: str) -> None:
    """A good URI is canonical as it stands, and so is its vault."""
    found = parse_pkcs11_uri(uri)

    assert uri == str(found)
    assert GOOD[uri] == (found.token, found.label)
    assert uri.startswith(found.vault_uri + ";")


@pytest.mark.parametrize("uri", OTHERWISE)
def test_otherwise(uri: str) -> None:
    """Another text of the same key is refused, and the hint is the one that would do: a text tells a vault."""
    with pytest.raises(BadKeyUri) as caught:
        parse_pkcs11_uri(uri)

    assert f"write {OTHERWISE[uri]}" == caught.value.hint


@pytest.mark.parametrize("uri", BAD)
def test_bad(uri: str) -> None:
    """A bad URI is refused with a hint."""
    with pytest.raises(BadKeyUri) as caught:
        parse_pkcs11_uri(uri)

    assert caught.value.hint
    assert caught.value.detail.isprintable()


@pytest.mark.parametrize("place", ["token=first;object=root?{}", "token=first;object=root;{}", "{};token=;object=r"])
@pytest.mark.parametrize("asking", ASKING)
def test_no_secret(asking: str, place: str) -> None:
    """A PIN or a library in a URI is refused, wherever it stands, and nothing that is said repeats it."""
    uri = f"pkcs11:{place.format(asking)}"
    with pytest.raises(BadKeyUri) as caught:
        parse_pkcs11_uri(uri)
    failure = classify(caught.value, uri)

    assert "pkcs11.tokens" in caught.value.hint
    assert SECRET not in f"{caught.value!r} {caught.value.hint} {failure.__dict__}"


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_label(token: str, label: str) -> None:
    """Any two labels are either refused or come back from their URI."""
    uri = str(TokenKey(token, label)) if (token + label).isprintable() else f"pkcs11:token={token};object={label}"
    try:
        found = parse_pkcs11_uri(uri)
    except BadKeyUri:
        return
    assert (token, label) == (found.token, found.label)
    assert uri == str(found)
