"""Who and what the story is about; in a fleet that goes on, every telling has a tenant and keys of its own."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cli.demo.mail import ARCHIVE, CALENDAR, INBOX, LARGE, TEAM


@dataclass(frozen=True, slots=True)
class Cast:
    """Name a tenant, and what belongs to it."""

    tenant: str
    places: tuple[str, str] = (
        "local://vault-1",
        "local://vault-2",
    )  # what stands before the name of a key in each vault
    mark: str = ""  # what stands behind it

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
    def document_keys(self) -> tuple[str, str]:
        """Name a key for documents in each of the two vaults."""
        return self._keys("docs")

    @property
    def keys(self) -> tuple[str, str]:
        """Name a key in each of the two vaults."""
        return self._keys("mail")

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

    def _keys(self, name: str) -> tuple[str, str]:
        first, second = self.places
        return f"{first}/{name}{self.mark}", f"{second}/{name}{self.mark}"
