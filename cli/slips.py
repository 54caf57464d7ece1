"""Names in the environment that are meant as settings and are none: a slip would change nothing, unseen."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass

# Kubernetes tells every container of the services beside it; one may be called `twinlock`.
_OF_SERVICES = re.compile(r".*_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_[A-Z]+)?)?)")


def slips(environment: Iterable[str], prefix: str, sections: Mapping[str, object]) -> list[str]:
    """Return what is wrong with names of the environment; `sections` are the settings with their defaults."""
    known = {f"{prefix}{name}".upper() for name in sections}
    near = {f"{prefix}{name}".upper() for name in _names(sections)}
    found = sorted(name for name in environment if name.upper().startswith(prefix))
    wrong = [name for name in found if name.upper().partition("__")[0] not in known]
    return [f"{name}: is not a setting{_meant(name, near)}" for name in wrong if not _OF_SERVICES.fullmatch(name)]


def _names(sections: Mapping[str, object]) -> Iterator[str]:
    for name, default in sections.items():
        yield name
        if is_dataclass(default):
            nested = {field.name: getattr(default, field.name) for field in fields(default)}
            yield from (f"{name}__{each}" for each in _names(nested))


def _meant(name: str, known: Iterable[str]) -> str:
    (nearest, *_) = [*difflib.get_close_matches(name.upper(), list(known), n=1, cutoff=0.8), ""]
    return f", did you mean {nearest}?" if nearest else ""
