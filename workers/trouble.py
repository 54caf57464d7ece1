"""Tell trouble that passes from a refusal: trouble puts work off and is never an attempt (law 12)."""

from datetime import datetime

from twinlock.content.objects import ObjectsTrouble
from twinlock.custody.errors import KeyNotYet, KeyRefused
from twinlock.keys.errors import DecryptionError
from twinlock.keys.ports import VaultFailure
from workers.jobs import Job
from workers.settings import WorkerSettings

# What stops a step without being the step's own fault; everything else goes to the retry ladder. A container key that
# does not decrypt waits for a repair from a backup; `status` shows the job and its trouble.
TROUBLE = (KeyRefused, KeyNotYet, VaultFailure, DecryptionError, ObjectsTrouble)


def pause(job: Job, now: datetime, settings: WorkerSettings) -> float:
    """Return how many seconds to wait: at first briefly, then as long as the trouble has lasted, within bounds."""
    if not job.trouble:
        return settings.trouble_first
    lasted = (now - (job.progressed_at or job.created_at)).total_seconds()
    return min(max(lasted, settings.trouble_first), settings.trouble_most)
