"""Who and what the story is about; in a fleet that goes on, every telling has a tenant and vaults of its own."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cli.demo.mail import ARCHIVE, CALENDAR, INBOX, LARGE, TEAM


@dataclass(frozen=True, slots=True)
class Cast:
    """Name a tenant, and what belongs to it."""

    tenant: str
    mark: str = ""

    @property
    def policy(self) -> str:
        """Name the policy."""
        return f"{self.tenant}/mail"

    @property
    def documents(self) -> str:
        """Name the policy for documents."""
        return f"{self.tenant}/docs"

    @property
    def site(self) -> str:
        """Name a site."""
        return f"{self.tenant}/shipyard"

    @property
    def geo(self) -> str:
        """Name the geo of the site."""
        return "EUR"

    @property
    def vaults(self) -> tuple[str, str]:
        """Name the two vaults."""
        return f"vault-1{self.mark}", f"vault-2{self.mark}"

    @property
    def document_keys(self) -> tuple[str, str]:
        """Name a key for documents in each of the two vaults."""
        first, second = self.vaults
        return f"local://{first}/docs", f"local://{second}/docs"

    @property
    def keys(self) -> tuple[str, str]:
        """Name a key in each of two vaults."""
        first, second = self.vaults
        return f"local://{first}/mail", f"local://{second}/mail"

    @property
    def ann(self) -> str:
        """Name a mailbox with much mail."""
        return f"ann@{self.tenant}.example"

    @property
    def ben(self) -> str:
        """Name a mailbox with a calendar."""
        return f"ben@{self.tenant}.example"

    @property
    def desk(self) -> str:
        """Name a shared mailbox."""
        return f"desk@{self.tenant}.example"

    @property
    def mailboxes(self) -> Mapping[str, tuple[Path, ...]]:
        """Return which mail goes into which mailbox."""
        return {self.ann: (INBOX, ARCHIVE), self.ben: (CALENDAR,), self.desk: (TEAM, LARGE)}

    @property
    def sources(self) -> list[Path]:
        """Return all mail."""
        return [source for each in self.mailboxes.values() for source in each]


def alone() -> Cast:
    """Return the cast of a home that nobody else uses."""
    return Cast("contoso")


def among_others() -> Cast:
    """Return a cast that no earlier telling had."""
    mark = f"-{secrets.token_hex(4)}"
    return Cast(f"contoso{mark}", mark)
