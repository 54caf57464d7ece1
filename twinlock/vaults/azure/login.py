"""Our tokens: a vault names its directory, we log in there with what the settings say, and nowhere else.

The vendor's library keeps a token and renews it ahead of its end. Where several callers need one at the same time, one
asks and the others take what it got, a failure included.
"""

import asyncio
from collections.abc import Collection
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Protocol

from azure.core.credentials import AccessToken, AccessTokenInfo, TokenRequestOptions
from azure.core.exceptions import ClientAuthenticationError
from azure.identity.aio import (
    CertificateCredential,
    ClientSecretCredential,
    ManagedIdentityCredential,
    WorkloadIdentityCredential,
)

from twinlock.vaults.azure.classify import fault_of
from twinlock.vaults.azure.reasons import Reason, VaultFault
from twinlock.vaults.azure.settings import AzureDirectory, AzureSettings
from twinlock.vaults.azure.transport import ONCE, Sessions, TokenTransport, Transport
from twinlock.vaults.azure.uris import is_directory

_MOST_SECRET_CHARACTERS = 4096
_BEGAN: ContextVar[float] = ContextVar("_BEGAN")  # when a call began, behind whatever it waits for in the library


def begin() -> None:
    """Note that a call begins: it is told of a login that fails from now on, and asks anew after an older one."""
    _BEGAN.set(asyncio.get_running_loop().time())


class _Credential(Protocol):
    async def get_token_info(self, *scopes: str, options: TokenRequestOptions | None = None) -> AccessTokenInfo: ...

    async def close(self) -> None: ...


class Logins:
    """Keep our logins to every directory; a login belongs to the authority that it is made at."""

    def __init__(self, settings: AzureSettings, secrets: Path, sessions: Sessions) -> None:
        self._directories = settings.directories
        self._secrets = secrets
        self._sessions = sessions
        self._open: dict[tuple[str, str, Path | None], _Login] = {}

    def of(self, directory: str, authority: str, ca_file: Path | None) -> "_Login":
        """Return the login to a directory, or raise the fault that says there is none."""
        own = self._directories.get(directory)
        if own is None:
            raise VaultFault(Reason.NO_LOGIN, directory if is_directory(directory) else "")
        place = (directory, authority, ca_file)
        if place not in self._open:
            self._open[place] = _Login(own, self._secrets, place, self._sessions)
        return self._open[place]

    async def close(self) -> None:
        """Forget every token."""
        logins, self._open = self._open, {}
        for login in logins.values():
            await login.close()


class _Login:
    """Keep one login; its files are read again after it was refused."""

    def __init__(
        self, own: AzureDirectory, secrets: Path, place: tuple[str, str, Path | None], sessions: Sessions
    ) -> None:
        self._own = own
        self._secrets = secrets
        self._directory, self._authority, self._ca_file = place
        self._sessions = sessions
        self._credential: _Credential | None = None
        self._asking = asyncio.Lock()
        self._token = ""
        self._failed: tuple[float, VaultFault] | None = None

    async def token(self, scope: str, options: TokenRequestOptions) -> AccessTokenInfo:
        """Return a token that has not ended, or raise the fault of the login."""
        async with self._asking:
            if self._failed is not None and self._failed[0] >= _BEGAN.get():
                raise VaultFault(self._failed[1].reason, self._failed[1].raw)
            try:
                return await self._ask(scope, options)
            except VaultFault as fault:
                self._failed = asyncio.get_running_loop().time(), fault
                await self.close()
                raise

    async def forget(self, token: str) -> None:
        """Forget a token that a vault has refused: the library would offer it to the end of its time."""
        async with self._asking:
            if token == self._token:
                await self.close()

    async def close(self) -> None:
        """Forget the token."""
        self._token = ""
        credential, self._credential = self._credential, None
        if credential is not None:
            await credential.close()

    async def _ask(self, scope: str, options: TokenRequestOptions) -> AccessTokenInfo:
        try:
            if self._credential is None:
                self._credential = self._build()
            found = await self._credential.get_token_info(scope, options=options)
        except ClientAuthenticationError:  # of a managed identity: all else was judged before the library saw it
            raise VaultFault(Reason.LOGIN_REFUSED, "managed identity") from None
        except Exception as fault:  # noqa: BLE001 - whatever the library raises has to become one of our faults
            raise fault_of(fault) from None
        self._token = found.token
        return found

    def _build(self) -> _Credential:
        own, session = self._own, self._sessions.of(self._ca_file)
        if own.managed_identity:
            return ManagedIdentityCredential(client_id=own.client_id or None, transport=Transport(session), **ONCE)
        about: dict[str, Any] = {"authority": self._authority, "transport": TokenTransport(session), **ONCE}
        if own.secret_file is not None:
            secret = _text(self._secrets / own.secret_file)
            return ClientSecretCredential(self._directory, own.client_id, secret, **about)
        if own.certificate_file is not None:
            path = self._secrets / own.certificate_file
            return _with_certificate(self._directory, own.client_id, path, about)
        token = self._secrets / (own.token_file or "")
        _text(token)  # the library reads it later, and its error would name nothing
        return WorkloadIdentityCredential(
            tenant_id=self._directory, client_id=own.client_id, token_file_path=str(token), **about
        )


def _with_certificate(directory: str, client_id: str, path: Path, about: dict[str, Any]) -> _Credential:
    try:
        return CertificateCredential(directory, client_id, certificate_data=path.read_bytes(), **about)
    except (OSError, ValueError, TypeError):
        raise VaultFault(Reason.NO_FILE, path.name) from None


def _text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        raise VaultFault(Reason.NO_FILE, path.name) from None
    if not 0 < len(text) <= _MOST_SECRET_CHARACTERS or not text.isascii() or not text.isprintable():
        raise VaultFault(Reason.NO_FILE, path.name)
    return text


class VaultLogin:
    """Be the credential that the library asks for one vault's tokens: for nothing but keys in vaults."""

    def __init__(self, logins: Logins, authority: str, ca_file: Path | None, scopes: Collection[str]) -> None:
        self._logins = logins
        self._authority = authority
        self._ca_file = ca_file
        self._scopes = scopes
        self._used: _Login | None = None

    async def get_token_info(self, *scopes: str, options: TokenRequestOptions | None = None) -> AccessTokenInfo:
        """Return a token of the directory that the vault names."""
        if len(scopes) != 1 or scopes[0] not in self._scopes:
            raise VaultFault(Reason.ADDRESS, "asks for a token that is no vault's")
        given: TokenRequestOptions = {**(options or {})}
        self._used = self._logins.of((given.get("tenant_id") or "").lower(), self._authority, self._ca_file)
        return await self._used.token(scopes[0], given)

    async def forget(self, token: str) -> None:
        """Forget a token that the vault has refused."""
        if self._used is not None:
            await self._used.forget(token)

    async def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        """Return the same; the library's older half asks so."""
        options.pop("claims", None)
        found = await self.get_token_info(*scopes, options={"tenant_id": options.get("tenant_id") or ""})
        return AccessToken(found.token, found.expires_on)

    async def close(self) -> None:
        """Do nothing: the logins are shared."""

    async def __aenter__(self) -> "VaultLogin":
        return self

    async def __aexit__(self, *ended: object) -> None:
        """Do nothing: the logins are shared."""
