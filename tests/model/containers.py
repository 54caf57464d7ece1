"""What is in a mailbox or a site: what has to be there, and what may be there besides. No I/O."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from schemas.identifiers import SERVICE_POLICY, Workload

GEO = "eu"

Source = Mapping[str, bytes]  # what a folder holds, by path
Content = Counter[tuple[str, bytes]]  # what was read, by path; an item has none


def is_site(name: str) -> bool:
    """Tell a site's name from a mailbox's address."""
    return "@" not in name


@dataclass
class Container:
    """Hold a mailbox or a site, the policy that it is under, and those that it was to be put under."""

    name: str
    policy: str = SERVICE_POLICY
    wanted: set[str] = field(default_factory=set)

    @property
    def workload(self) -> Workload:
        """Return what it is."""
        return Workload.SITE if is_site(self.name) else Workload.MAILBOX

    def told(self, source: Source, acknowledged: bool) -> None:
        """Note that a folder was brought in, or may have been in part."""
        raise NotImplementedError

    def has_all(self, source: Source) -> bool:
        """Tell whether all of a folder was acknowledged."""
        raise NotImplementedError

    def holds(self, found: Content) -> bool:
        """Tell whether this is what has to be there: nothing lost, nothing changed, nothing twice."""
        raise NotImplementedError

    def saw(self, found: Content) -> None:
        """Note what was read: it has to stay."""
        raise NotImplementedError


@dataclass
class Box(Container):
    """Hold a mailbox's items: identical ones of one source are all kept, those of the same source again are not."""

    acknowledged: Content = field(default_factory=Counter)
    besides: Content = field(default_factory=Counter)

    def told(self, source: Source, acknowledged: bool) -> None:
        """Add items to what is there or may be there."""
        self.besides |= _items(source)
        if acknowledged:
            self.acknowledged |= _items(source)

    def has_all(self, source: Source) -> bool:
        """Tell whether every item was acknowledged."""
        return _items(source) <= self.acknowledged

    def holds(self, found: Content) -> bool:
        """Compare items."""
        return self.acknowledged <= found <= self.acknowledged | self.besides

    def saw(self, found: Content) -> None:
        """Keep to what was read."""
        self.acknowledged |= found


@dataclass
class Site(Container):
    """Hold a site's files: a later one takes the place of an earlier one; None is no file."""

    files: dict[str, set[bytes | None]] = field(default_factory=dict)

    def told(self, source: Source, acknowledged: bool) -> None:
        """Replace files, or say that they may be replaced."""
        for path, body in source.items():
            before = set[bytes | None]() if acknowledged else self.files.get(path, {None})
            self.files[path] = before | {body}

    def has_all(self, source: Source) -> bool:
        """Tell whether every file is known to be there."""
        return all(self.files.get(path) == {body} for path, body in source.items())

    def holds(self, found: Content) -> bool:
        """Compare files."""
        there = dict(found.keys())
        known = all(there.get(path) in self.files.get(path, {None}) for path in there.keys() | self.files)
        return known and len(there) == found.total()

    def saw(self, found: Content) -> None:
        """Keep to what was read."""
        there = dict(found.keys())
        self.files = {path: {there.get(path)} for path in self.files}


def make(name: str, wanted: set[str]) -> Container:
    """Make an empty mailbox or site."""
    return Site(name, wanted=wanted) if is_site(name) else Box(name, wanted=wanted)


def _items(source: Source) -> Content:
    return Counter(("", body) for body in source.values())
