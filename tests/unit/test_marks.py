"""The mark's file in a home, and what the home checks it with."""

import logging
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cli import home
from cli.settings import Settings
from cli.starting import check_secrets
from cli.wiring.marking import log_keys_of, marks_of
from schemas.names import RECOVERY_HANDLER, TIK_CACHE_REFRESHER
from twinlock.custody.audit.chain import Run, sign
from twinlock.custody.revocation.mark import Mark
from twinlock.errors import TwinlockError
from twinlock.keys.signing import SigningKey

AT = datetime(2026, 1, 1, tzinfo=UTC)


def signed_by(key: SigningKey) -> Mark:
    """Return a mark whose checkpoint a key has signed."""
    return Mark(3, sign(key, Run(1, "a", 1, 1, AT, 1), bytes(32), {"a": 1}, AT), "revoked:p")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    home.prepare(tmp_path)
    home.make_audit_key(tmp_path)
    return tmp_path


def test_law_15_mark_of_another_key(place: Path) -> None:
    """Law 15: a mark that holds what this home's key has not signed is refused, with what to do about it."""
    own = home.make_checkpoint_key(place / home.SECRETS, place)
    for mark in (Mark(3), signed_by(own)):
        marks_of(place).write(mark)

        assert mark == marks_of(place).read()
    marks_of(place).write(signed_by(SigningKey.generate()))
    with pytest.raises(TwinlockError, match="a checkpoint that this home's key has not signed") as refused:
        marks_of(place).read()

    assert "restore check --checkpoint FILE" in refused.value.hint


def test_mark_without_a_key(place: Path) -> None:
    """A home that has no key for checkpoints goes on with the mark that it has, and believes nothing new."""
    mark = signed_by(SigningKey.generate())
    marks_of(place).write(mark)

    assert (mark, None) == (marks_of(place).read(), log_keys_of(place))
    home.make_checkpoint_key(place / home.SECRETS, place)
    keys = log_keys_of(place)

    assert keys is not None
    assert home.read_audit_key(place).hex() not in repr(keys)


def test_lost_public_half(place: Path) -> None:
    """A home without the public key of its checkpoints is not whole: `init` makes it of the other half."""
    home.make_checkpoint_key(place / home.SECRETS, place)
    home.make_certificate_key(place / home.SECRETS, place)
    home.check(place)
    (place / home.CHECKPOINT_PUBLIC).unlink()
    with pytest.raises(home.NotInitialised):
        home.check(place)
    home.make_checkpoint_key(place / home.SECRETS, place)
    home.check(place)


@pytest.mark.parametrize("worker", [TIK_CACHE_REFRESHER, RECOVERY_HANDLER])
def test_worker_without_a_key_says_so(place: Path, caplog: pytest.LogCaptureFixture, worker: str) -> None:
    """A worker that holds a mark says where it can't check checkpoints, and starts all the same."""
    settings = Settings(home=place, secrets=place / home.SECRETS)
    home.make_worker_key(settings.secrets_folder, worker)
    home.make_certificate_key(settings.secrets_folder, place)
    with caplog.at_level(logging.WARNING):
        check_secrets(settings, worker)
        home.make_checkpoint_key(settings.secrets_folder, place)
        check_secrets(settings, worker)

    (told,) = caplog.messages
    assert f"{place / home.CHECKPOINT_PUBLIC} is missing" in told
