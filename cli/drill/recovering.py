"""Recover the policy of a sandbox with the ordinary commands, as two approvers would, and see how long that takes."""

import time
from dataclasses import dataclass
from pathlib import Path

from cli.commands import approval, approver, key, recovery
from cli.output import Result
from cli.progress import Shows
from cli.session import Session, open_session
from cli.settings import Settings
from twinlock.errors import TwinlockError
from twinlock.keys.signing import SigningKey, public_to_pem

_NEW = ("local://drill-c/root", "local://drill-d/root")
_PEOPLE = ("first", "second")


@dataclass(frozen=True, slots=True)
class Recovery:
    """Hold what a recovery in the sandbox needs: its home, a folder for the approvers' keys, and patience."""

    settings: Settings
    folder: Path
    policy: str
    timeout: float

    async def prepare(self, session: Session, tenant: str) -> None:
        """Name two approvers, as their tenant does while all is well."""
        for name in _PEOPLE:
            pair, public = SigningKey.generate(), self.folder / f"{name}.pub"
            self._private(name).touch(mode=0o600)
            self._private(name).write_bytes(pair.to_pem())
            public.write_bytes(public_to_pem(pair.public))
            await approver.add(session, tenant, name, public)

    async def carry_out(self) -> float:
        """Ask for it, sign it twice, and return after how many seconds of the machine all is on new keys."""
        began = time.monotonic()
        async with open_session(self.settings, self.timeout, wait=True, shows=Shows.NOTHING) as session:
            for uri in _NEW:
                await key.create(session, uri)
            asked = _done(await recovery.request(session, self.policy, list(_NEW), "a drill"))
            for name in _PEOPLE:
                signed = _done(await approval.approve(session, asked["id"], name, self._private(name)))
        if signed["state"] != "done":
            raise TwinlockError(f"the recovery in the sandbox is {signed['state']}", hint="see the log of a real one")
        return time.monotonic() - began

    def _private(self, name: str) -> Path:
        return self.folder / f"{name}.key"


def _done(result: Result) -> dict[str, str]:
    if result.failure is not None:
        raise TwinlockError(f"the recovery in the sandbox failed: {result.failure.line}", hint=result.failure.hint)
    assert isinstance(result.document, dict)  # noqa: S101  # narrows the type
    return result.document
