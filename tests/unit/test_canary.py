"""A key of our own tells whose act a refusal was: the customer's, or a fault of our identity."""

from pathlib import Path
from typing import Any

import pytest

from cli.settings import Settings, SettingsFault, load_settings
from cli.wiring.vaults import open_vaults
from twinlock.clock import ManualClock
from twinlock.keys.ports import Denied, Misconfigured, Outcome, Unavailable, Unclear, VaultFailure, WrappedKey
from twinlock.keys.root_payload import PAYLOAD_BYTES
from twinlock.vaults import canary as module
from twinlock.vaults.aws.settings import AwsAccount, AwsSettings
from twinlock.vaults.aws.vault import KmsVault
from twinlock.vaults.canary import KEPT_BAD, KEPT_GOOD, Canary, WithCanary
from twinlock.vaults.software.memory import MemoryVault

THEIRS, OURS = "memory://customer/root", "memory://provider/canary"
BODY, CONTEXT = bytes(PAYLOAD_BYTES), b"context"


def refused(kind: type[VaultFailure] = Denied, **more: Any) -> VaultFailure:
    return kind("we may not use the key", uri=THEIRS, raw="403", request_id="r", classifier="c/1", **more)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def vault(clock: ManualClock) -> MemoryVault:
    made = MemoryVault(clock)
    for uri in (THEIRS, OURS):
        await made.create_root_key(uri)
    return made


@pytest.fixture
async def asked(vault: MemoryVault, clock: ManualClock) -> tuple[WithCanary, WrappedKey]:
    watched = WithCanary(vault, Canary(vault, OURS, clock))
    return watched, await watched.wrap(THEIRS, BODY, CONTEXT)


async def fails(asked: tuple[WithCanary, WrappedKey]) -> VaultFailure:
    watched, wrapped = asked
    with pytest.raises(VaultFailure) as caught:
        await watched.unwrap(wrapped, CONTEXT)
    return caught.value


@pytest.mark.parametrize("kind", [Denied, Unclear])
@pytest.mark.parametrize(
    ("own", "judged"),
    [
        (Outcome.OK, Denied),
        (Outcome.DENIED, Misconfigured),
        (Outcome.MISCONFIGURED, Misconfigured),
        (Outcome.UNCLEAR, Misconfigured),
        (Outcome.UNAVAILABLE, None),
    ],
)
async def test_judged(
    vault: MemoryVault, asked: Any, kind: type[VaultFailure], own: Outcome, judged: type[VaultFailure] | None
) -> None:
    """What our own key comes to decides, whatever the answer was taken for; its silence decides nothing."""
    vault.hold(THEIRS, refused(kind, of_permission=True))
    if own is not Outcome.OK:
        vault.hold(OURS, own)

    found = await fails(asked)

    assert (judged or kind) is type(found)
    assert (THEIRS, "403", "r", "c/1") == (found.uri, found.raw, found.request_id, found.classifier)
    assert not found.counts


async def test_not_asked(vault: MemoryVault, asked: Any) -> None:
    """Nothing else is judged again: a good answer, a disabled key, an outage; and our own key is left alone."""
    watched, wrapped = asked
    assert BODY == await watched.unwrap(wrapped, CONTEXT)
    for failure in (refused(exact=True), refused(Unavailable, counts=True)):
        vault.hold(THEIRS, failure)

        assert failure is await fails(asked)
    assert 0 == vault.calls["unwrap", OURS] + vault.calls["wrap", OURS]


async def test_asked_once(vault: MemoryVault, asked: Any, clock: ManualClock) -> None:
    """A thousand refusals ask our own key once; later it is asked again, and only to unwrap."""
    vault.hold(THEIRS, refused(of_permission=True))
    for _ in range(1000):
        await fails(asked)
    clock.advance(KEPT_GOOD + 1)
    await fails(asked)

    assert (1, 2) == (vault.calls["wrap", OURS], vault.calls["unwrap", OURS])


async def test_key_of_ours_made_anew(vault: MemoryVault, asked: Any, clock: ManualClock) -> None:
    """What failed is not believed for long, and tried with what our key is by then."""
    vault.hold(THEIRS, refused(of_permission=True))
    vault.hold(OURS, Outcome.DENIED)
    assert isinstance(await fails(asked), Misconfigured)
    vault.hold(OURS, Outcome.OK)
    assert isinstance(await fails(asked), Misconfigured)
    clock.advance(KEPT_BAD + 1)

    assert isinstance(await fails(asked), Denied)


async def test_other_bytes(vault: MemoryVault, asked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A vault that gives other bytes for our own key has not opened it."""
    vault.hold(THEIRS, refused(of_permission=True))
    opens = MemoryVault.unwrap

    async def unwrap(self: MemoryVault, wrapped: WrappedKey, context: bytes) -> bytes:
        found = await opens(self, wrapped, context)
        return found[::-1]

    monkeypatch.setattr(MemoryVault, "unwrap", unwrap)

    assert isinstance(await fails(asked), Misconfigured)


async def test_silent(vault: MemoryVault, asked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own key that hangs holds nobody up until a deadline passes that would count as a vault's silence (law 5)."""
    vault.hold(THEIRS, refused(of_permission=True))
    monkeypatch.setattr(module, "PATIENCE", 0.01)
    vault.slow(OURS, 60)

    found = await fails(asked)

    assert Denied is type(found)
    assert not found.counts


async def test_set(tmp_path: Path, clock: ManualClock) -> None:
    """The setting puts it before the vendor's adapter, and a key that is none is refused."""
    arn = "arn:aws:kms:eu-west-1:111122223333:key/0f8fad5b-d9cb-469f-a165-70867728950e"
    found: dict[str, type] = {}
    for name, canary in {"with": arn, "without": None}.items():
        settings = Settings(home=tmp_path, aws=AwsSettings(accounts={"111122223333": AwsAccount()}, canary=canary))
        async with open_vaults(settings, clock) as (vaults, _):
            found[name] = type(vaults.of(arn))

    assert {"with": WithCanary, "without": KmsVault} == found
    assert AwsSettings(canary="alias").faults[0].startswith("canary: 'alias' is not a key in AWS KMS; a key")


@pytest.mark.parametrize(("deadline", "good"), [(3.0, True), (3.5, False)])
def test_deadline(tmp_path: Path, deadline: float, good: bool) -> None:
    """Whoever would be cut off while our own key is asked is told so: it would pass for a vault's silence (law 5)."""
    text = f'[azure]\ncanary = "https://ours.vault.azure.net/keys/canary"\ndeadline = {deadline}\n'
    (tmp_path / "twinlock.toml").write_text(text)
    if good:
        assert deadline == load_settings(tmp_path).azure.deadline
        return
    with pytest.raises(SettingsFault, match=r"azure\.deadline has to be 3\.25 or less with a canary"):
        load_settings(tmp_path)
