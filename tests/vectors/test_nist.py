"""Published cases: NIST AES-GCM for the parameters that we use, and RFC 5869 HKDF-SHA256."""

import re
from collections.abc import Iterator

import cryptography_vectors
import pytest

from twinlock.keys import kdf
from twinlock.keys.aead import Aead
from twinlock.keys.errors import DecryptionError

Case = dict[str, str]
SECTION = "[Keylen = 256]\n[IVlen = 96]\n[PTlen = {pt}]\n[AADlen = {aad}]\n[Taglen = 128]"
LENGTHS = [(pt, aad) for pt in (0, 104, 128, 256, 408) for aad in (0, 128, 160, 384, 720)]


def read(path: str) -> str:
    """Return a file of published cases."""
    with cryptography_vectors.open_vector_file(path, "r") as file:
        return str(file.read()).replace("\r\n", "\n")


def cases_of(text: str, start: str) -> Iterator[Case]:
    """Return what stands behind each start of a case: `name = value` lines, and FAIL where the case must fail."""
    for block in text.split(start)[1:]:
        case = dict(re.findall(r"^(\w+) *= *(\w*)$", block, re.MULTILINE))
        yield case | ({"FAIL": "yes"} if "\nFAIL" in block else {})


def nist(path: str, pt: int, aad: int) -> list[dict[str, bytes]]:
    """Return the cases with a 256-bit key, a 96-bit nonce and a 128-bit tag, for one pair of lengths."""
    text = read(f"ciphers/AES/GCM/{path}").partition(SECTION.format(pt=pt, aad=aad))[2].partition("[")[0]
    keep = ("Key", "IV", "PT", "CT", "AAD", "Tag")
    return [
        {k: bytes.fromhex(v) for k, v in case.items() if k in keep} | ({"FAIL": b"1"} if "FAIL" in case else {})
        for case in cases_of(text, "Count = ")
    ]


def opened(case: dict[str, bytes]) -> bytes | None:
    """Return the plaintext, or None for the one error."""
    try:
        return Aead(case["Key"]).decrypt(case["IV"] + case["CT"] + case["Tag"], case["AAD"])
    except DecryptionError:
        return None


@pytest.mark.parametrize(("pt", "aad"), LENGTHS)
def test_nist_encrypt(pt: int, aad: int) -> None:
    """Every NIST encryption case gives the published ciphertext and tag."""
    cases = nist("gcmEncryptExtIV256.rsp", pt, aad)

    assert 15 == len(cases)
    for case in cases:
        assert case["CT"] + case["Tag"] == Aead(case["Key"]).seal(case["IV"], case["PT"], case["AAD"])


@pytest.mark.parametrize(("pt", "aad"), LENGTHS)
def test_nist_decrypt(pt: int, aad: int) -> None:
    """Every NIST decryption case gives the published plaintext, or the one error where the tag is bad (law 2)."""
    cases = nist("gcmDecrypt256.rsp", pt, aad)

    assert 15 == len(cases)
    for case in cases:
        assert (None if "FAIL" in case else case["PT"]) == opened(case)


def test_nist_has_both() -> None:
    """The decryption cases hold good and bad ones, so that both ways are really taken."""
    cases = [case for pt, aad in LENGTHS for case in nist("gcmDecrypt256.rsp", pt, aad)]

    assert 100 < sum("FAIL" in case for case in cases) < len(cases) - 100


class Material:
    """Key material of any length: the published cases use 22 and 80 bytes."""

    def __init__(self, raw: str) -> None:
        self.raw = bytearray.fromhex(raw)

    def expose(self) -> bytearray:
        """Lend the bytes."""
        return self.raw


HKDF_CASES = [
    case
    for path in ("KDF/rfc-5869-HKDF-SHA256.txt", "KDF/hkdf-generated.txt")
    for case in cases_of(read(path), "COUNT = ")
]


@pytest.mark.parametrize("case", HKDF_CASES, ids=lambda case: f"L={case['L']}")
def test_hkdf(case: Case) -> None:
    """Every published HKDF-SHA256 case gives the published output."""
    buffer = bytearray(int(case["L"]))
    salt, info = bytes.fromhex(case["salt"]), bytes.fromhex(case["info"])
    kdf.hkdf_into(Material(case["IKM"]), salt, info, buffer)

    assert bytes.fromhex(case["OKM"]) == bytes(buffer)


def test_hkdf_count() -> None:
    """All three SHA-256 cases of RFC 5869 are there, and the one of 1200 bytes."""

    assert ["42", "82", "42", "1200"] == [case["L"] for case in HKDF_CASES]
