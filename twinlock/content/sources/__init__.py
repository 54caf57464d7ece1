"""Mail as it comes in: mbox files, Maildirs, and folders with .eml and .ics files, read as streams.

Plain synchronous file code: call it in a thread. Where a source lies is for error messages alone and never stored.
"""

from twinlock.content.sources.detect import open_source
from twinlock.content.sources.errors import (
    MailError,
    NotMail,
    SourceChanged,
    TargetFailed,
    TargetRefused,
    Unreadable,
)
from twinlock.content.sources.message import Kind, MailSource, SourceMessage

__all__ = [
    "Kind",
    "MailError",
    "MailSource",
    "NotMail",
    "SourceChanged",
    "SourceMessage",
    "TargetFailed",
    "TargetRefused",
    "Unreadable",
    "open_source",
]
