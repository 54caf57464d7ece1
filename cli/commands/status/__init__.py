"""`twinlock status`: first who can't read, who soon can't, what runs and what waits for a person; then the details."""

from cli.commands.status.screen import register

__all__ = ["register"]
