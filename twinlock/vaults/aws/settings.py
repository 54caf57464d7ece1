"""How AWS KMS is reached: as whom in which account, where, and how long we wait."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from twinlock.vaults.aws.uris import parse_key_arn
from twinlock.vaults.uris import faults_of_key

_PLACE = re.compile(r"[0-9]{12}(?:/[a-z]{2,4}(?:-[a-z]{1,12}){1,3}-[0-9]{1,2})?")
_ROLE = re.compile(r"arn:aws(?:-[a-z]{1,12}){0,3}:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]{1,576}")
_EXTERNAL_ID = re.compile(r"[A-Za-z0-9+=,.@:/_-]{2,1224}")
_SESSION = re.compile(r"[A-Za-z0-9+=,.@_-]{2,64}")
_ENDPOINT = re.compile(r"https?://[A-Za-z0-9.-]{1,253}(?::[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class AwsAccount:
    """Hold how the keys of one account are reached, by default in all of its regions.

    Without a `role_arn` our own identity is used as it is. `endpoint` and `sts_endpoint` are private endpoints.
    """

    role_arn: str = ""
    external_id: str = field(default="", repr=False)
    endpoint: str = ""
    sts_endpoint: str = ""

    def faults(self, allow_http: bool) -> list[str]:
        """Say what is wrong with these settings."""
        found = []
        if self.role_arn and not _ROLE.fullmatch(self.role_arn):
            found.append("has a role_arn that is not arn:aws:iam::ACCOUNT:role/NAME")
        if self.external_id and not _EXTERNAL_ID.fullmatch(self.external_id):
            found.append("has an external_id that STS would not take")
        if self.external_id and not self.role_arn:
            found.append("has an external_id without a role_arn")
        for name in ("endpoint", "sts_endpoint"):
            url = getattr(self, name)
            if url and not _ENDPOINT.fullmatch(url):
                found.append(f"has an {name} that is not https://HOST or https://HOST:PORT")
            elif url.startswith("http:") and not allow_http:
                found.append(f"has an {name} that would send keys in the clear: for development set aws.allow_http")
        return found

    def owns_role(self, account: str) -> bool:
        """Say whether the role belongs to an account, so that what it may do is up to that account's owner."""
        return self.role_arn.split(":")[4:5] == [account]


@dataclass(frozen=True, slots=True)
class AwsSettings:
    """Hold the settings of all accounts, each under its number or under `NUMBER/REGION`; times are in seconds.

    Our own identity comes from `credentials_file`, which is read again when it changes, or else from where Amazon's
    tools look for one. `deadline` bounds one attempt with all that belongs to it, and is best kept below the
    custodian's own.
    """

    deadline: float = 3.0
    connections: int = 16  # to each account and region at the same time
    allow_http: bool = False  # an `endpoint` without TLS gets keys in the clear
    credentials_file: Path | None = None
    profile: str = "default"  # the section of that file
    session_name: str = "twinlock"  # what the account's owner sees in CloudTrail
    session_seconds: int = 3600
    canary: str | None = None  # a key of our own: it tells whose act it was that another one is refused
    accounts: Mapping[str, AwsAccount] = field(default_factory=dict)

    @property
    def faults(self) -> list[str]:
        """Say what is wrong with these settings."""
        found = [f"accounts: {name!a} is not NUMBER or NUMBER/REGION" for name in self.accounts if not _is_place(name)]
        for name, account in self.accounts.items():
            found += [f"accounts: {name!a} {fault}" for fault in account.faults(self.allow_http)]
        found += faults_of_key("canary", self.canary, parse_key_arn)
        if not _SESSION.fullmatch(self.session_name):
            found.append("session_name has to be 2 to 64 letters, digits and +=,.@_-")
        if not 900 <= self.session_seconds <= 43200:
            found.append("session_seconds has to be 900 to 43200")
        return found

    def account(self, number: str, region: str) -> AwsAccount | None:
        """Return the settings of an account in a region, or none where nothing is set for it."""
        return self.accounts.get(f"{number}/{region}") or self.accounts.get(number)


def _is_place(name: str) -> bool:
    return _PLACE.fullmatch(name) is not None
