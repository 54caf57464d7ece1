"""How OpenBao servers are reached: which ones there are, how we log in to each, and how long we wait."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from twinlock.vaults.administration import BadKeyUri
from twinlock.vaults.openbao.uris import check_server


@dataclass(frozen=True, slots=True)
class TokenFile:
    """Log in with a token that lies in a file; the file is read again when the token is refused."""

    path: Path


@dataclass(frozen=True, slots=True)
class AppRole:
    """Log in to an AppRole; `place` is where it is mounted, behind its namespace."""

    role_id: str
    secret_id: Path
    place: str


Login = TokenFile | AppRole


@dataclass(frozen=True, slots=True)
class OpenBaoServer:
    """Hold one server's settings; a secret is never among them, only the file that it lies in.

    `namespace` is where we log in; the namespace of a key is a part of its mount. `ca_file` holds the certificates that
    are trusted in place of the system's.
    """

    token_file: Path | None = None
    role_id: str = ""
    secret_id_file: Path | None = None
    approle: str = "approle"
    namespace: str = ""
    ca_file: Path | None = None

    @property
    def faults(self) -> list[str]:
        """Say what keeps these settings from being a login."""
        if self.token_file is None and not self.role_id:
            return ["has no login, set token_file, or role_id and secret_id_file"]
        if self.token_file is not None and (self.role_id or self.secret_id_file):
            return ["has two logins, set token_file, or role_id and secret_id_file"]
        if self.token_file is None and self.secret_id_file is None:
            return ["has a role_id without secret_id_file"]
        return []

    def login(self, folder: Path) -> Login:
        """Return how we log in; files without a full path lie in `folder`."""
        if self.token_file is not None:
            return TokenFile(folder / self.token_file)
        if self.secret_id_file is None:
            raise ValueError(self.faults[0])
        return AppRole(self.role_id, folder / self.secret_id_file, f"{self.namespace_path}auth/{self.approle}")

    @property
    def namespace_path(self) -> str:
        """Return what stands before the path of a request about our own login."""
        return f"{self.namespace.strip('/')}/" if self.namespace.strip("/") else ""


@dataclass(frozen=True, slots=True)
class OpenBaoSettings:
    """Hold the settings of all servers, each under its `HOST:PORT`; times are in seconds.

    `deadline` bounds one attempt with all that belongs to it, and is best kept below the custodian's own.
    """

    deadline: float = 3.0
    connections: int = 16  # to each server at the same time
    allow_http: bool = False  # `bao+http` sends tokens and keys in the clear
    servers: Mapping[str, OpenBaoServer] = field(default_factory=dict)

    @property
    def faults(self) -> list[str]:
        """Say what keeps these settings from reaching a server."""
        faults = [f"servers: {each} {fault}" for each, server in self.servers.items() for fault in server.faults]
        for name in self.servers:
            try:
                check_server(name)
            except BadKeyUri as fault:
                faults.append(f"servers: {fault.detail}")
        return faults
