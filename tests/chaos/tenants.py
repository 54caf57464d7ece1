"""The tenants: what they keep, what they have been promised of it, and the commands by which they use it."""

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random

from tests.chaos.stage import STARTING, Stage
from tests.fleet.installation import Ran

CANARY = "canary-81c0de6b7f"  # in every mail and every file: whoever finds it anywhere has found content
SECONDS = 6  # for a command while something is wrong
LARGE = 150_000  # bytes: too large for the database
GEO = "EUR"
_POLICIES = {
    "mover": "steady",
    "roller": "rolled",
    "holder": "held",
}  # the fourth mailbox is under now one, now another


@dataclass
class Box:
    """Hold a mailbox, what is surely in it, and folders of mail whose import nobody has acknowledged."""

    address: str
    kept: Counter[bytes] = field(default_factory=Counter)
    open: list[Path] = field(default_factory=list)


@dataclass
class Site:
    """Hold a site, and its files: those that are surely there, and those that may be."""

    name: str
    folder: Path
    kept: dict[str, bytes] = field(default_factory=dict)
    open: dict[str, bytes] = field(default_factory=dict)


@dataclass
class Counts:
    """Count commands, by how they ended."""

    done: int = 0
    not_done: int = 0


class Tenants:
    """Type commands as the tenants' people would, and keep in mind what each was answered."""

    def __init__(self, stage: Stage, order: Random, names: list[str]) -> None:
        self.names = names
        self.commands = Counts()
        self.reads = 0
        self.boxes = {
            f"{kind}@{name}.example": Box(f"{kind}@{name}.example")
            for name in names
            for kind in ("mover", "switcher", "roller", "holder")
        }
        self.sites = {name: Site(f"{name}/plans", stage.folder / f"site-{name}") for name in names}
        self.revoked: Counter[str] = Counter()  # acknowledged revocations, by policy
        self.maybe_revoked: Counter[str] = Counter()  # those of which nobody knows
        self.held: set[str] = set()  # policies that are revoked now, acknowledged
        self.unsure: set[str] = set()  # policies that may be revoked or not
        self.denied: set[str] = set()  # policies whose keys the customer has taken away now
        self.ever_denied: set[str] = set()
        self.attempts: Counter[str] = Counter()  # commands that ask for something, by their words
        self._stage = stage
        self._order = order
        self._numbers = count(1)

    # how commands are typed

    def type(self, *arguments: str, seconds: float = SECONDS) -> Ran:
        """Type a command once; whatever comes of it, it ends in order."""
        ran = self._stage.fleet.run(*arguments, "--timeout", str(seconds), "--json")
        self.attempts[" ".join(arguments[:2])] += 1
        assert ran.code in (0, 1, 3), ran
        assert ran.code == 0 or ran.err.startswith("twinlock: "), ran
        if ran.code == 0:
            self.commands.done += 1
        else:
            self.commands.not_done += 1
        return ran

    def insist(self, *arguments: str) -> Ran:
        """Type a command until it is done; nothing is wrong any more, or it is over soon."""
        last: list[Ran] = []

        def done() -> bool:
            last.append(self.type(*arguments, seconds=30))
            return last[-1].code == 0

        try:
            self._stage.fleet.until(done, STARTING)
        except AssertionError as stuck:
            raise AssertionError(f"{' '.join(arguments)} is never done: {last[-1]}") from stuck
        return last[-1]

    # how they begin

    def begin(self) -> None:
        """Make everything, while nothing is wrong."""
        for name in self.names:
            self.insist("tenant", "add", name)
            for policy in ("steady", "rolled", "held"):
                self.make_policy(name, policy)
            self.make_policy(name, "docs", "--geo", GEO, workload="site")
            self.insist("site", "add", "plans", "--tenant", name, "--geo", GEO)
            self.insist("policy", "assign", f"{name}/docs", "--geo", GEO)
        for address in self.boxes:
            kind, _, domain = address.partition("@")
            tenant = domain.partition(".")[0]
            self.insist("mailbox", "add", address, "--tenant", tenant)
            self.deliver(address)
            if kind in _POLICIES:
                self.insist("policy", "assign", f"{tenant}/{_POLICIES[kind]}", "--mailbox", address)
        for name in self.names:
            self.file(name)

    def make_policy(self, tenant: str, name: str, *options: str, workload: str = "mailbox") -> None:
        """Make two keys in the customer's vaults, and a policy with them."""
        key = f"{tenant}-{name}"
        self.make_keys(key)
        wanted = ("--tenant", tenant, "--name", name, "--workload", workload, *self.keys(key), *options)
        self.insist("policy", "create", *wanted)

    def make_keys(self, key: str) -> None:
        """Make a key in each vault."""
        for vault in self._stage.vaults:
            vault.mount.create(key)

    def keys(self, key: str) -> list[str]:
        """Return the options that name a key of each vault."""
        return [word for vault in self._stage.vaults for word in ("--key", vault.uri(key))]

    # mail

    def deliver(self, address: str) -> None:
        """Import some mail."""
        box = self.boxes[address]
        box.open.append(self._mail())
        self.import_open(box, self.type)

    def import_open(self, box: Box, command: Callable[..., Ran]) -> None:
        """Import what is not acknowledged yet; doing so again adds nothing."""
        for folder in list(box.open):
            if command("mailbox", "import", box.address, str(folder)).code == 0:
                box.kept += bodies(folder)
                box.open.remove(folder)

    def read(self, address: str) -> Ran:
        """Export a mailbox, and compare: all that was acknowledged is there, and nothing that nobody sent."""
        box, target = self.boxes[address], self._stage.folder / "read"
        shutil.rmtree(target, ignore_errors=True)
        policy = f"{address.partition('@')[2].partition('.')[0]}/held"
        is_held = address.startswith("holder@") and policy in self.held
        ran = self.type("mailbox", "export", address, str(target))
        if ran.code == 0:
            assert not is_held, f"{policy} is revoked, and was read"
            self.reads += 1
            found = bodies(target)
            most = sum((bodies(folder) for folder in box.open), box.kept)
            assert box.kept <= found <= most, f"{address} reads {found - most} too much, {box.kept - found} too little"
        return ran

    def _mail(self) -> Path:
        number = next(self._numbers)
        folder = self._stage.folder / "mail" / str(number)
        folder.mkdir(parents=True)
        for each in range(self._order.randrange(2, 7)):
            text = f"Subject: {CANARY} {number}.{each}\n\n{CANARY} {self._order.random()}\n"
            (folder / f"{each}.eml").write_text(text)
        if not self._order.randrange(4):
            (folder / "large.eml").write_bytes(
                f"Subject: {CANARY} {number}\n\n".encode() + self._order.randbytes(LARGE)
            )
        return folder

    # files

    def file(self, tenant: str) -> None:
        """Import some files into the tenant's site; what is there stays."""
        site, number = self.sites[tenant], next(self._numbers)
        path = f"{number}/ß.bin"
        body = f"{CANARY} {number} ".encode() + self._order.randbytes(self._order.choice([0, 1000, LARGE]))
        (site.folder / path).parent.mkdir(parents=True)
        (site.folder / path).write_bytes(body)
        site.open[path] = body
        self.import_files(site, self.type)

    def import_files(self, site: Site, command: Callable[..., Ran]) -> None:
        """Import the site's folder; doing so again adds nothing."""
        if command("site", "import", site.name, str(site.folder)).code == 0:
            site.kept |= site.open
            site.open = {}

    def read_site(self, tenant: str) -> Ran:
        """Export a site, and compare."""
        site, target = self.sites[tenant], self._stage.folder / "read-site"
        shutil.rmtree(target, ignore_errors=True)
        ran = self.type("site", "export", site.name, str(target))
        if ran.code == 0:
            self.reads += 1
            found = {str(each.relative_to(target)): each.read_bytes() for each in target.rglob("*") if each.is_file()}
            assert found.items() <= (site.kept | site.open).items(), f"{site.name} has what nobody sent"
            assert site.kept.items() <= found.items(), f"{site.name} has lost {site.kept.keys() - found.keys()}"
        return ran


def bodies(folder: Path) -> Counter[bytes]:
    """Return the bytes of all files."""
    return Counter(path.read_bytes() for path in folder.iterdir())
