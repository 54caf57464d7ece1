"""Our token at one OpenBao server: fetched when first needed, renewed before it ends, and shared by all calls.

Nothing runs in the background: a call that finds the lease two thirds over renews it on its way. Where several callers
need a token at the same time, one asks and the others take what it got, a failure included.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from twinlock.keys.ports import Clock
from twinlock.vaults.openbao.client import Answer, Client
from twinlock.vaults.openbao.reasons import Reason, VaultFault
from twinlock.vaults.openbao.settings import AppRole, Login, TokenFile

_RENEW_AFTER = 2 / 3
_MOST_TOKEN_CHARACTERS = 4096


@dataclass(slots=True, eq=False)
class Lease:
    """Hold a token, when it ends and when to renew it, on the monotonic clock; `proven` once the server took it."""

    token: str = field(repr=False)
    ends: float = math.inf
    due: float = math.inf
    proven: bool = False

    @classmethod
    def lasting(cls, token: str, now: float, seconds: float, renewable: bool) -> "Lease":
        """Make the lease of a good token; one that is not renewable is replaced when it ends."""
        return cls(token, now + seconds, now + seconds * _RENEW_AFTER if renewable else math.inf, proven=True)

    def put_off(self, now: float) -> "Lease":
        """Return this lease, to be renewed a little later: it is good until it ends."""
        self.due = now + (self.ends - now) / 4
        return self


class Credentials:
    """Keep our token at one server."""

    def __init__(self, login: Login, namespace_path: str, client: Client, clock: Clock) -> None:
        self._login = login
        self._own = f"{namespace_path}auth/token/"
        self._client = client
        self._clock = clock
        self._lease: Lease | None = None
        self._asking = asyncio.Lock()
        self._attempts = 0
        self._failed: VaultFault | None = None

    async def lease(self) -> Lease:
        """Return a token that has not ended, or raise the fault of the login."""
        lease, now = self._lease, self._clock.monotonic()
        if lease is None or now >= lease.ends:
            return await self._replace(lease, self._log_in)
        if now >= lease.due and not self._asking.locked():
            return await self._replace(lease, lambda: self._renewed(lease))
        return lease

    async def after_refusal(self, refused: Lease) -> Lease:
        """Return another token where there is one, or the same where it is still good; else raise why it is not."""
        return await self._replace(refused, lambda: self._another(refused))

    async def _replace(self, old: Lease | None, make: Callable[[], Awaitable[Lease]]) -> Lease:
        seen = self._attempts
        async with self._asking:
            if self._lease is not None and self._lease is not old:
                return self._lease
            if self._failed is not None and self._attempts != seen:
                raise VaultFault(self._failed.reason, self._failed.raw, self._failed.request_id)
            self._lease = await self._attempt(make)
            return self._lease

    async def _attempt(self, make: Callable[[], Awaitable[Lease]]) -> Lease:
        """Note how it ended; what was cancelled has not ended, and the next caller begins anew."""
        try:
            lease = await make()
        except VaultFault as fault:
            self._failed = fault
            self._attempts += 1
            raise
        self._failed = None
        self._attempts += 1
        return lease

    async def _renewed(self, lease: Lease) -> Lease:
        """Renew a token that is still good; whatever fails here, a call can go on with it."""
        now = self._clock.monotonic()
        try:
            answer = await self._client.send("POST", f"{self._own}renew-self", {}, lease.token)
            # Near its longest life a token is renewed by next to nothing: then it is time for a new one.
            if answer.fault is None and (renewed := self._leased(answer.auth)).ends > lease.ends:
                return renewed
            return await self._log_in() if isinstance(self._login, AppRole) else lease.put_off(now)
        except (VaultFault, aiohttp.ClientError):
            return lease.put_off(now)

    async def _another(self, refused: Lease) -> Lease:
        if isinstance(self._login, AppRole):
            return await self._log_in()
        if (lease := await self._from_file(self._login)).token != refused.token:
            return lease
        if lease.proven:
            return refused
        if not refused.proven or self._clock.monotonic() >= refused.ends:
            raise VaultFault(Reason.TOKEN_BAD)
        raise VaultFault(Reason.TOKEN_LOST)

    async def _log_in(self) -> Lease:
        if isinstance(self._login, TokenFile):
            return await self._from_file(self._login)
        body = {"role_id": self._login.role_id, "secret_id": _secret_in(self._login.secret_id)}
        answer = await self._client.send("POST", f"{self._login.place}/login", body)
        return self._leased(_login_section(answer))

    async def _from_file(self, login: TokenFile) -> Lease:
        """Read the token, and how long it lasts where we may know; a policy may keep a token from looking at itself."""
        token, now = _secret_in(login.path), self._clock.monotonic()
        answer = await self._client.send("GET", f"{self._own}lookup-self", token=token)
        if answer.status == 403:
            return Lease(token)
        found = answer.section
        if found.get("expire_time") is None:
            return Lease(token, proven=True)
        return Lease.lasting(token, now, _number(found.get("ttl")), found.get("renewable") is True)

    def _leased(self, auth: dict[str, Any]) -> Lease:
        token, seconds = auth.get("client_token"), _number(auth.get("lease_duration"))
        if not isinstance(token, str) or not _is_token(token):
            raise VaultFault(Reason.UNKNOWN, "login without a token")
        if not seconds:
            return Lease(token, proven=True)
        return Lease.lasting(token, self._clock.monotonic(), seconds, auth.get("renewable") is True)


def _login_section(answer: Answer) -> dict[str, Any]:
    fault = answer.fault
    if fault is not None and fault.reason in (Reason.FORBIDDEN, Reason.MOUNT_GONE, Reason.UNKNOWN_KEY):
        raise VaultFault(Reason.LOGIN_GONE, answer.raw)
    return answer.auth


def _secret_in(path: Path) -> str:
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        raise VaultFault(Reason.NO_FILE, path.name) from None
    if not _is_token(secret):  # it would not fit into a header, and whatever it is, it is no token
        raise VaultFault(Reason.NO_FILE, path.name)
    return secret


def _is_token(text: str) -> bool:
    return 0 < len(text) <= _MOST_TOKEN_CHARACTERS and text.isascii() and text.isprintable() and " " not in text


def _number(value: object) -> float:
    return float(value) if type(value) is int and 0 <= value < 2**40 else 0.0
