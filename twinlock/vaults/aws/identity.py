"""Who we are at AWS: an identity of our own, and where an account wants it a role in that account.

Nothing runs in the background: a call that finds a session two thirds over renews it on its way. Where several callers
need a session at the same time, one asks and the others take what it got, a failure included.
"""

import asyncio
import configparser
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from aiobotocore.session import AioSession

from twinlock.keys.ports import Clock
from twinlock.vaults.aws.reasons import Reason, VaultFault

_RENEW_AFTER = 2 / 3
_NEW_SECONDS = 60.0  # a denied key is asked for again and again, which is no reason for a session each time
_MOST_CHARACTERS = 8192

Assume = Callable[[], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True, eq=False)
class Keys:
    """Hold what requests are signed with."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


class Identity(Protocol):
    """Be somebody at AWS."""

    @property
    def secrets(self) -> list[str]:
        """Return what must not be shown."""
        ...

    async def keys(self) -> Keys:
        """Return keys that have not ended, or raise a fault."""
        ...

    async def after_refusal(self, refused: Keys) -> Keys:
        """Return other keys where there are any, or the same."""
        ...


class OwnIdentity:
    """Be the provider: by a file of credentials, or by where Amazon's tools look for them."""

    def __init__(self, path: Path | None, profile: str, patience: float) -> None:
        self._path = path
        self._profile = profile
        self._patience = patience
        self._keys: Keys | None = None
        self._stamp = 0
        self._chain: Any = None

    @property
    def secrets(self) -> list[str]:
        """Return what must not be shown."""
        return [] if self._keys is None else _secrets(self._keys)

    async def keys(self) -> Keys:
        """Return the keys, read again where they lie in a file that has changed."""
        self._keys = await self._found() if self._path is None else self._read(self._path)
        return self._keys

    def _read(self, path: Path) -> Keys:
        try:
            stamp = path.stat().st_mtime_ns
        except OSError:
            raise VaultFault(Reason.NO_IDENTITY, path.name) from None
        if self._keys is None or stamp != self._stamp:
            self._keys, self._stamp = _keys_in(path, self._profile), stamp
        return self._keys

    async def after_refusal(self, refused: Keys) -> Keys:
        """Return the same keys: they are as new as they can be."""
        return refused

    async def _found(self) -> Keys:
        # Our own trouble, however long it takes: it must not pass for the vault's silence (law 5).
        try:
            async with asyncio.timeout(self._patience):
                if self._chain is None:
                    self._chain = await AioSession().get_credentials()
                found = None if self._chain is None else await self._chain.get_frozen_credentials()
        except TimeoutError:
            raise VaultFault(Reason.IDENTITY_SLOW) from None
        except Exception as fault:  # noqa: BLE001 - whatever it finds there, it is no identity
            raise VaultFault(Reason.NO_IDENTITY, type(fault).__name__) from None
        if found is None:
            raise VaultFault(Reason.NO_IDENTITY)
        return _checked(found.access_key, found.secret_key, found.token)


@dataclass(frozen=True, slots=True, eq=False)
class _Session:
    """Hold a session's keys, when they end and when to renew them, on the monotonic clock."""

    keys: Keys
    begun: float
    ends: float
    due: float


class AssumedRole:
    """Be a role in the account of a key, for sessions of an hour or so."""

    def __init__(self, assume: Assume, seconds: float, patience: float, clock: Clock) -> None:
        self._assume = assume
        self._seconds = seconds
        self._patience = patience
        self._clock = clock
        self._session: _Session | None = None
        self._asking = asyncio.Lock()
        self._attempts = 0
        self._failed: Exception | None = None

    @property
    def secrets(self) -> list[str]:
        """Return what must not be shown."""
        return [] if self._session is None else _secrets(self._session.keys)

    async def keys(self) -> Keys:
        """Return keys that have not ended, or raise the fault of taking on the role."""
        session, now = self._session, self._clock.monotonic()
        if session is None or now >= session.ends:
            return (await self._replace(session, self._begin)).keys
        if now >= session.due and not self._asking.locked():
            return (await self._replace(session, lambda: self._renewed(session))).keys
        return session.keys

    async def after_refusal(self, refused: Keys) -> Keys:
        """Return the keys of another session, or the same where that is new, or raise why there is no other."""
        session, now = self._session, self._clock.monotonic()
        if session is not None and (session.keys is not refused or now < session.begun + _NEW_SECONDS):
            return session.keys
        return (await self._replace(session, self._begin)).keys

    async def _replace(self, old: _Session | None, make: Callable[[], Awaitable[_Session]]) -> _Session:
        seen = self._attempts
        async with self._asking:
            if self._session is not None and self._session is not old:
                return self._session
            if self._failed is not None and self._attempts != seen:
                raise self._failed
            self._session = await self._attempt(make)
            return self._session

    async def _attempt(self, make: Callable[[], Awaitable[_Session]]) -> _Session:
        """Note how it ended; what was cancelled has not ended, and the next caller begins anew."""
        try:
            session = await make()
        except Exception as fault:
            self._failed = fault
            self._attempts += 1
            raise
        self._failed = None
        self._attempts += 1
        return session

    async def _renewed(self, session: _Session) -> _Session:
        """Return a new session; whatever fails here, a call can go on with the one that is still good."""
        try:
            async with asyncio.timeout(self._patience):
                return await self._begin()
        except Exception:  # noqa: BLE001 - whatever STS answers, nothing is lost yet
            now = self._clock.monotonic()
            return _Session(session.keys, session.begun, session.ends, now + (session.ends - now) / 4)

    async def _begin(self) -> _Session:
        now = self._clock.monotonic()
        found = (await self._assume()).get("Credentials")
        if not isinstance(found, dict):
            raise VaultFault(Reason.UNKNOWN, "role without credentials")
        access, secret, token = (found.get(name) for name in ("AccessKeyId", "SecretAccessKey", "SessionToken"))
        if token is None:
            raise VaultFault(Reason.UNKNOWN, "role without a session")
        keys = _checked(access, secret, token, Reason.UNKNOWN)
        return _Session(keys, now, now + self._seconds, now + self._seconds * _RENEW_AFTER)


def _keys_in(path: Path, profile: str) -> Keys:
    """Read the file that Amazon's tools call their shared credentials."""
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
        section = parser[profile]
        names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
        access, secret, token = (section.get(name) for name in names)
    except (OSError, ValueError, KeyError, configparser.Error):
        raise VaultFault(Reason.NO_IDENTITY, path.name) from None  # the parser's message quotes the line
    return _checked(access, secret, token)


def _checked(access: object, secret: object, token: object, otherwise: Reason = Reason.NO_IDENTITY) -> Keys:
    """Return keys that fit into a header: whatever else it is, it is no identity."""
    if not _is_text(access) or not _is_text(secret) or not (token is None or _is_text(token)):
        raise VaultFault(otherwise)
    return Keys(str(access), str(secret), None if token is None else str(token))


def _is_text(value: object) -> bool:
    fits = isinstance(value, str) and 0 < len(value) <= _MOST_CHARACTERS
    return fits and str(value).isascii() and str(value).isprintable() and " " not in str(value)


def _secrets(keys: Keys) -> list[str]:
    return [keys.secret_key, *([keys.token] if keys.token else [])]
