"""What is installed, what is locked, and which files may touch cryptography."""

import ast
import re
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PACKAGES = ["schemas", "twinlock", "events", "workers", "cli"]
# The only files that may hold key bytes or call a primitive.
CRYPTOGRAPHY_USERS = ["twinlock/keys/*.py", "twinlock/vaults/software/*.py"]


def _pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def _declared() -> list[Requirement]:
    table = _pyproject()
    groups = [table["project"]["dependencies"], *table["dependency-groups"].values(), table["build-system"]["requires"]]
    return [Requirement(line) for group in groups for line in group if isinstance(line, str)]


def _locked() -> dict[str, tuple[str, str]]:
    """Return version and hashes of every locked distribution."""
    entries = re.split(r"\n(?=\S)", (ROOT / "requirements.lock").read_text().strip())
    heads = [re.match(r"([\w.-]+)==([^\s;]+)", entry) for entry in entries]
    pairs = zip(heads, entries, strict=True)
    return {canonicalize_name(head[1]): (head[2], entry) for head, entry in pairs if head is not None}


def _sources() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def _imported(path: Path) -> Iterator[str]:
    """Yield the top-level name of everything that a file imports, at any depth of the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def _may_use_cryptography(path: Path) -> bool:
    place = path.relative_to(ROOT).as_posix()
    return any(fnmatchcase(place, pattern) for pattern in CRYPTOGRAPHY_USERS)


def test_version() -> None:
    """The installed distribution tells the version that the project declares."""
    expected = _pyproject()["project"]["version"]

    assert expected == version("twinlock")


@pytest.mark.parametrize("name", PACKAGES)
def test_names_are_ours(name: str) -> None:
    """No other installed distribution brings a package with the name of one of ours."""
    claims = set(packages_distributions().get(name, []))

    assert set() == claims - {"twinlock"}


def test_packages_are_built() -> None:
    """The wheel holds exactly the packages that the import contracts know."""
    table = _pyproject()["tool"]

    assert PACKAGES == table["uv"]["build-backend"]["module-name"]
    assert PACKAGES == table["importlinter"]["root_packages"]


def test_lock_has_hashes() -> None:
    """Every line of the lock belongs to a pinned distribution with a SHA-256."""
    locked = _locked()
    unhashed = [name for name, (_, entry) in locked.items() if "--hash=sha256:" not in entry]
    heads = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith(" ")]

    assert [] == unhashed
    assert len(heads) == len(locked)


def test_lock_has_no_address() -> None:
    """The lock names no registry, so that any mirror can serve it."""
    text = (ROOT / "requirements.lock").read_text()

    assert [] == re.findall(r"\S*(?:://|index-url|find-links)\S*", text)


def test_lock_follows_declaration() -> None:
    """Everything declared, the build backend included, is locked at a version that the declaration allows."""
    locked = _locked()
    versions = {item.name: locked.get(canonicalize_name(item.name), ("", ""))[0] for item in _declared()}
    stray = [str(item) for item in _declared() if not versions[item.name] or versions[item.name] not in item.specifier]

    assert [] == stray


def test_cryptography_stays_in_named_files() -> None:
    """Only the key floor and the vaults that hold software keys import `cryptography`."""
    users = [path for path in _sources() if "cryptography" in _imported(path)]
    strangers = [str(path.relative_to(ROOT)) for path in users if not _may_use_cryptography(path)]

    assert [] == strangers
