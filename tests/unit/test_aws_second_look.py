"""What the description of a key adds to an answer that leaves open whose act it was; a stand-in answers at the wire."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers.aws_wire import KEY, PAYLOAD, REQUEST_ID, Answer, Wire, answer, cut, described, refusal, wired
from tests.servers.receiver import silence
from tests.unit.aws_bench import CONTEXT, on_wire, refused, verdict
from twinlock.clock import ManualClock
from twinlock.keys.ports import Corrupt, Denied, Misconfigured, Unavailable, Unclear, VaultFailure

HIDDEN = (
    "User: x is not authorized to perform: kms:Decrypt because the resource does not exist in this Region, "
    "no resource-based policies allow access, or a resource-based policy explicitly denies access"
)
FORBIDDEN = refusal("AccessDeniedException", HIDDEN)
UNSAID = refusal("AccessDeniedException", "User: x is not authorized to perform: kms:Decrypt")
NOT_FOUND = refusal("NotFoundException", f"Key '{KEY}' does not exist")
DAMAGED = refusal("InvalidCiphertextException")
NO_MATERIAL = refusal("KMSInvalidStateException", f"{KEY} is pending import.")
NEW = refusal("KMSInvalidStateException", "something new")
PAST = 1504715457.0

CASES: list[tuple[Answer, Answer, type[VaultFailure], str, bool]] = [
    (DAMAGED, described(), Corrupt, "decrypt-failed", False),
    (DAMAGED, FORBIDDEN, Corrupt, "decrypt-failed", False),
    (DAMAGED, NOT_FOUND, Denied, "key-gone", False),
    (DAMAGED, described(CreationDate=PAST), Denied, "key-replaced", True),
    (DAMAGED, described(KeyState="Unavailable"), Corrupt, "decrypt-failed", False),
    (NOT_FOUND, NOT_FOUND, Denied, "key-gone", False),
    (NOT_FOUND, described(), Unclear, "key-not-settled", False),
    (NOT_FOUND, FORBIDDEN, Denied, "key-gone", False),
    (NOT_FOUND, described(KeyState="PendingDeletion"), Denied, "key-pending-deletion", True),
    (FORBIDDEN, described(), Denied, "permission-denied", False),
    (FORBIDDEN, FORBIDDEN, Denied, "permission-denied", False),
    (FORBIDDEN, cut, Denied, "permission-denied", False),
    (FORBIDDEN, answer([]), Denied, "permission-denied", False),
    (FORBIDDEN, answer({}), Denied, "permission-denied", False),
    (FORBIDDEN, described(KeyState="Disabled"), Denied, "key-disabled", True),
    (FORBIDDEN, described(KeyState="PendingReplicaDeletion"), Denied, "key-pending-deletion", True),
    (UNSAID, described(), Unclear, "permission-denied-without-cause", False),
    (UNSAID, described(KeyState="Disabled"), Denied, "key-disabled", True),
    (NO_MATERIAL, described(KeyState="PendingImport", Origin="EXTERNAL"), Denied, "key-pending-import", False),
    (NO_MATERIAL, described(KeyState="PendingImport", ValidTo=PAST), Unclear, "key-material-expired", False),
    (NEW, described(), Unclear, "unknown-answer", False),
    (NEW, described(KeyState="Unavailable"), Unclear, "key-store-closed", False),
    (NEW, described(KeyState="PendingImport"), Denied, "key-pending-import", False),
    (NEW, described(KeyState="SomethingNew"), Unclear, "unknown-answer", False),
]


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    """Bring a stand-in."""
    async with wired() as running:
        yield running


@pytest.fixture
async def vault(wire: Wire, tmp_path: Path, clock: ManualClock) -> AsyncIterator[Any]:
    """Bring a vault that is logged in to it, in a role of the key's account."""
    async with on_wire(wire, tmp_path, clock, role=True) as opened:
        yield opened


async def test_round_trip(wire: Wire, vault: Any) -> None:
    """An unwrap asks once, pins the key, and binds the context's digest, which CloudTrail may show."""
    wrapped = await vault.wrap(KEY, PAYLOAD, CONTEXT)
    bound = wire.parameters[-1]["EncryptionContext"]

    assert PAYLOAD == await vault.unwrap(wrapped, CONTEXT)
    assert ["AssumeRole", "DescribeKey", "Encrypt", "Decrypt"] == wire.asked
    assert (KEY, bound) == (wire.parameters[-1]["KeyId"], wire.parameters[-1]["EncryptionContext"])
    assert ["twinlock-context"] == list(bound)


async def test_second_look(wire: Wire, vault: Any) -> None:
    """The first answer stands, unless the key's own state says more."""
    wrapped = await vault.wrap(KEY, PAYLOAD, CONTEXT)
    found = []
    for first, second, *_ in CASES:
        wire.due["Decrypt"], wire.due["DescribeKey"] = [first], [second]
        failure = await refused(vault.unwrap(wrapped, CONTEXT))
        found.append(verdict(failure))
        wire.due.clear()

        assert failure.request_id in (REQUEST_ID, "")

    assert [(kind, raw, exact, False) for _, _, kind, raw, exact in CASES] == found


async def test_no_second_look(wire: Wire, vault: Any) -> None:
    """What is clear at once is asked once: a key that is disabled, a limit, an outage."""
    wrapped = await vault.wrap(KEY, PAYLOAD, CONTEXT)
    before = wire.count("DescribeKey")
    wire.due["Decrypt"] = [refusal("DisabledException"), refusal("ThrottlingException"), answer({}, 503), cut]
    found = [verdict(await refused(vault.unwrap(wrapped, CONTEXT))) for _ in range(4)]

    assert [
        (Denied, "key-disabled", True, False),
        (Unavailable, "rate-limited", False, False),
        (Unavailable, "server-fault", False, True),
        (Unavailable, "unreachable", False, True),
    ] == found
    assert before == wire.count("DescribeKey")


async def test_wrong_answers(wire: Wire, vault: Any) -> None:
    """A plaintext of another size is corrupt, and another key's answer to a wrap is unknown."""
    wrapped = await vault.wrap(KEY, PAYLOAD, CONTEXT)
    wire.due["Decrypt"] = [answer({"Plaintext": "AAAA", "KeyId": KEY})]
    wire.due["Encrypt"] = [answer({"CiphertextBlob": "A" * 400, "KeyId": KEY[:-1] + "c"})]

    assert Corrupt is type(await refused(vault.unwrap(wrapped, CONTEXT)))
    assert Unclear is type(await refused(vault.wrap(KEY, PAYLOAD, CONTEXT)))


@pytest.mark.parametrize(
    "wrong", [{"KeySpec": "RSA_2048"}, {"KeyUsage": "SIGN_VERIFY"}, {"KeyManager": "AWS"}, {"KeySpec": None}]
)
async def test_wrong_type(wire: Wire, vault: Any, wrong: dict[str, Any]) -> None:
    """A key of another kind, or Amazon's own, is our own mistake."""
    wire.always["DescribeKey"] = described(**wrong)

    assert (Misconfigured, "key-wrong-type", False, False) == verdict(await refused(vault.describe(KEY)))


async def test_material_that_expires(wire: Wire, vault: Any) -> None:
    """Imported material that will expire is described with its date."""
    wire.always["DescribeKey"] = described(Origin="EXTERNAL", ExpirationModel="KEY_MATERIAL_EXPIRES", ValidTo=2e9)

    assert 2e9 == (await vault.describe(KEY)).expires.timestamp()


@pytest.mark.parametrize("second", ["DescribeKey", "AssumeRole"])
async def test_time_runs_out_after_a_refusal(wire: Wire, tmp_path: Path, clock: ManualClock, second: str) -> None:
    """Who was refused, and then got no further answer, was not met by silence: that is no evidence (law 5)."""
    async with on_wire(wire, tmp_path, clock, role=True, deadline=3.0) as vault:
        wrapped = await vault.wrap(KEY, PAYLOAD, CONTEXT)
        clock.advance(120)
        wire.always |= {"Decrypt": FORBIDDEN, second: silence}

        assert (Denied, "permission-denied", False, False) == verdict(await refused(vault.unwrap(wrapped, CONTEXT)))
