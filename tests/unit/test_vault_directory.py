"""A key's URI is read strictly, and leads to one adapter."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinlock.clock import ManualClock
from twinlock.keys.ports import Misconfigured
from twinlock.vaults.administration import AdministrationError, BadKeyUri
from twinlock.vaults.directory import VaultDirectory
from twinlock.vaults.software.memory import MemoryVault
from twinlock.vaults.uris import KeyUri, parse_key_uri

GOOD = ["local://a/b", "local://contoso-1/root.2030_a", f"local://{'v' * 63}/{'k' * 63}", "local://0/a..b"]
BAD = [
    "",
    "local",
    "local:",
    "local:/a/b",
    "://a/b",
    "local://",
    "local:///b",
    "local://a",
    "local://a/",
    "local://a/b/",
    "local://a/b/c",
    "local://a/../b",
    "local://../a",
    "local://./a",
    "local://.hidden/a",
    "local://a/.lock",
    "local://a/-b",
    "local://a/b\n",
    "local://a/b\x00",
    "local://a/b c",
    "local://a/b%2e",
    "local://a/b?x=1",
    "local://a\\b/c",
    "local://A/b",
    "local://a/B",
    "LOCAL://a/b",
    "local://a/\u00e9",
    "local://a/\u0661",
    f"local://{'v' * 64}/k",
    " local://a/b",
    "\udcff://a/b",
]


@pytest.fixture
def memory(clock: ManualClock) -> MemoryVault:
    """Bring an adapter."""
    return MemoryVault(clock)


@pytest.fixture
def directory(memory: MemoryVault) -> VaultDirectory:
    """Bring a directory that knows one scheme."""
    return VaultDirectory({"local": memory})


@pytest.mark.parametrize("uri", GOOD)
def test_good(uri: str) -> None:
    """A good URI is canonical as it stands."""
    assert uri == str(parse_key_uri(uri))
    assert KeyUri("local", *uri.removeprefix("local://").split("/")) == parse_key_uri(uri, "local")


@pytest.mark.parametrize("uri", BAD)
def test_bad(uri: str) -> None:
    """A bad URI is refused with a hint, as a ValueError and as an error of the administration."""
    with pytest.raises(BadKeyUri) as caught:
        parse_key_uri(uri, "local")

    assert caught.value.hint
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, AdministrationError)
    assert caught.value.detail.isprintable()


def test_case_hint() -> None:
    """A name in capitals is not folded, and the hint shows the name that would do."""
    with pytest.raises(BadKeyUri) as caught:
        parse_key_uri("local://Contoso/root")

    assert "did you mean contoso?" in caught.value.hint


def test_long_text() -> None:
    """A message quotes only the beginning of a long text."""
    with pytest.raises(BadKeyUri) as caught:
        parse_key_uri("x" * 100_000)

    assert len(caught.value.detail) < 200


@given(st.text())
def test_any_text(uri: str) -> None:
    """Any text is either canonical or refused."""
    try:
        found = parse_key_uri(uri)
    except BadKeyUri:
        return
    assert uri == str(found)


def test_directory(directory: VaultDirectory, memory: MemoryVault) -> None:
    """A scheme leads to its adapter, and a key to its one text."""
    assert memory is directory.of("local://contoso-1/root")
    assert "local://contoso-1/root" == directory.canonical("local://contoso-1/root")


@pytest.mark.parametrize("uri", ["bao://contoso-1/root", "rubbish", ""])
def test_unknown_scheme(directory: VaultDirectory, uri: str) -> None:
    """A scheme that no adapter knows is our own mistake, and a person is told which ones there are."""
    with pytest.raises(Misconfigured) as caught:
        directory.of(uri)
    with pytest.raises(BadKeyUri) as refused:
        directory.canonical(uri)

    assert "local:" in refused.value.hint
    assert (uri, "bad-uri") == (caught.value.uri, caught.value.raw)


def test_no_uri(memory: MemoryVault) -> None:
    """What is no URI of its vault leads to none: nobody calls, counts or shows what stands in it."""
    with pytest.raises(Misconfigured) as caught:
        VaultDirectory({"local": memory}).of("local://somebody:hunter2@contoso-1/root")

    assert "bad-uri" == caught.value.raw
