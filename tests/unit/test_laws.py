"""docs/laws.md names every test of every law; run this file to write it anew."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "laws.md"

LAWS: Mapping[int, tuple[str, str]] = {
    1: (
        "one commitment",
        "What a vault answers counts only if it matches the policy key's commitment; the identity of every root key"
        " version is pinned.",
    ),
    2: ("one place", "A wrapped key or ciphertext that was moved anywhere else fails, and the failure says only that."),
    3: (
        "no late writer",
        "Content is added and moved under the container's lock and its newest key; a key goes only when it is empty.",
    ),
    4: ("memory", "A denied root key stays denied through any outage, restart or replica until it unwraps again."),
    5: (
        "evidence",
        "The availability key opens for unavailability only after enough failures that count, over enough time.",
    ),
    6: ("no laundering", "The availability key never helps to leave a policy: that needs a root key that unwraps now."),
    7: ("the verdict comes before the cache", "A cached key serves only whom the decision table would serve now."),
    8: (
        "the epoch",
        "A custodian serves only while it has confirmed the newest revocation within the last 10 s.",
    ),
    9: (
        "the broker is not trusted",
        "Requests to the custodian are signed, replies sealed to a one-time key and signed, and each counts once.",
    ),
    10: (
        "service is not a master key",
        "A worker has a fixed list of purposes, and a service call names live work that concerns what it asks for.",
    ),
    11: (
        "at least once in, exactly once in effect",
        "Inbox, state and outbox are one transaction; the ack comes after it.",
    ),
    12: ("work is a row", "Unfinished work is a job with a lease and a fencing number; wake-ups only wake."),
    13: (
        "authority is settled once",
        "A request's first receipt decides, by the login that the broker verified, and its record about every copy;"
        " facts count from the workers that tell them.",
    ),
    14: (
        "objects",
        "An object is announced before it is written, pointed at in one transaction, and swept when unreferenced.",
    ),
    15: (
        "audit",
        "An unwrap's entry is durable before the key is released; numbers have no gaps, every entry a MAC, and all of"
        " them a chain that is signed and published, so that whatever is done to the log is found.",
    ),
    16: (
        "two people",
        "Recovery, purge, lifting a revocation and changing the approvers need the signatures of two different"
        " approvers over one statement, which are verified again when it is carried out.",
    ),
}


def named_tests() -> Mapping[int, list[str]]:
    """Find every test whose docstring names a law."""
    found: dict[int, list[str]] = defaultdict(list)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for function, docstring in _tests(path):
            for number in re.findall(r"\blaws? (\d+)", docstring, re.IGNORECASE):
                found[int(number)].append(f"{path.relative_to(ROOT)}::{function}")
    return found


def _tests(path: Path) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test"):
            yield node.name, ast.get_docstring(node) or ""


def render() -> str:
    """Write the page."""
    tests = named_tests()
    lines = [
        "# The laws and their tests",
        "",
        "A law is an invariant: no change may break one. Each of them has tests that name it.",
        "",
    ]
    for number, (name, sentence) in LAWS.items():
        lines += [f"## Law {number}: {name}", "", sentence, ""]
        lines += [f"- `{test}`" for test in tests[number]]
        lines += [""]
    return "\n".join(lines)


def test_every_law_has_tests() -> None:
    """Every law that holds has tests that name it, and no test names another."""
    tests = named_tests()

    assert set(LAWS) == {number for number in LAWS if tests[number]}
    assert set(LAWS) >= set(tests)


def test_page_is_current() -> None:
    """docs/laws.md lists exactly the tests there are."""
    assert render() == PAGE.read_text(), "run: python tests/unit/test_laws.py"


if __name__ == "__main__":
    PAGE.write_text(render())
