"""How often an alert that goes on is counted again: once in each hour of its first day, and then once a day. Pure.

Every refused read and every probe would be a storm, and a policy that somebody gave up stays unhealthy for years.
"""

from datetime import timedelta

_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)


def beats(lasted: timedelta) -> int:
    """Return in which part of its time something is that has lasted so long; it counts once in each, from 0 on."""
    if lasted < _DAY:
        return max(0, lasted // _HOUR)
    return _DAY // _HOUR - 1 + lasted // _DAY
