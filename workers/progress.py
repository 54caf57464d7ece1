"""When progress is told: at most once a second and once a percent (law 12); and when it is noted, which is oftener."""

from datetime import datetime

from workers.jobs import Job
from workers.settings import WorkerSettings

_NOTED_SECONDS = 600.0


def tells(job: Job, done: int, now: datetime, settings: WorkerSettings) -> bool:
    """Tell whether a step that brings a job to `done` is worth an event."""
    percent_moved = job.total == 0 or done * 100 // job.total > job.done * 100 // job.total
    since = job.progressed_at or job.created_at
    return percent_moved and (now - since).total_seconds() >= settings.progress_seconds


def notes(job: Job, done: int, now: datetime) -> bool:
    """Tell whether a step got on after a while of none that was worth an event: slow is not stuck."""
    since = job.progressed_at or job.created_at
    return done > job.done and (now - since).total_seconds() >= _NOTED_SECONDS
