"""The statement that approvers sign: its bytes, and that no two statements share them."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinlock.approvals.statement import (
    MAX_BYTES,
    MAX_REASON,
    Action,
    BadStatement,
    NamedApprover,
    NamedPolicy,
    NamedPurge,
    NewKey,
    Statement,
    parse,
)
from twinlock.keys.signing import BadSignature, SigningKey, verify

NOW = datetime(2026, 1, 2, 3, 4, 5, 678, UTC)
PLAIN = Statement(
    action=Action.RESTORE_POLICY,
    installation="0199f1c2",
    tenant_id="t1",
    tenant="acme",
    request="r1",
    reason="",
    requested=NOW,
    expires=NOW + timedelta(days=7),
)
FULL = replace(
    PLAIN,
    policy=NamedPolicy("p1", "main", 3),
    keys=(NewKey("a", "local://v/k", "1", "f1"), NewKey("b", "local://w/k", "2", "f2")),
    approver=NamedApprover("ann", "f3", 259200, "00"),
    purge=NamedPurge("dpo@acme.example", 259200, "f4"),
)
# Few words, so that two statements often share most of them, and what JSON, UTF-16 and terminals treat specially.
TEXT = st.one_of(
    st.sampled_from(["", "a", "b", '"', "\\", "\x00", "\u202e", "é", "e\u0301", "😀"]), st.text(max_size=8)
)
_OLDEST = datetime(1900, 1, 1)  # noqa: DTZ001  # hypothesis adds the zone
MOMENT = st.datetimes(_OLDEST, timezones=st.sampled_from([UTC, timezone(timedelta(hours=2))]))
STATEMENTS = st.builds(
    Statement,
    action=st.sampled_from(Action),
    installation=TEXT,
    tenant_id=TEXT,
    tenant=TEXT,
    request=TEXT,
    reason=TEXT,
    requested=MOMENT,
    expires=MOMENT,
    policy=st.none() | st.builds(NamedPolicy, TEXT, TEXT, st.integers(0, 2)),
    keys=st.lists(st.builds(NewKey, TEXT, TEXT, TEXT, TEXT), max_size=2).map(tuple),
    approver=st.none() | st.builds(NamedApprover, TEXT, TEXT, st.integers(0, 2), TEXT),
    although_revoked=st.booleans(),
    purge=st.none() | st.builds(NamedPurge, TEXT, st.integers(0, 2), TEXT),
)


@given(STATEMENTS, STATEMENTS)
def test_law_16_no_two_alike(one: Statement, other: Statement) -> None:
    """Law 16: two different statements never encode alike, and the same one always does."""
    assert (one == other) == (one.encode() == other.encode())


@given(STATEMENTS)
def test_law_16_read_as_it_was_written(statement: Statement) -> None:
    """Law 16: what is read from a statement's bytes is that statement."""
    assert statement == parse(statement.encode())


@given(STATEMENTS)
def test_law_16_shown_as_it_is(statement: Statement) -> None:
    """Law 16: a statement's bytes are plain ASCII in lines, below one zero byte: a terminal shows what is signed."""
    label, zero, body = statement.encode().partition(b"\x00")

    assert b"\x00" == zero
    assert {*label, *body} <= {*range(0x20, 0x7F), 0x0A}


def test_law_16_bytes_by_hand() -> None:
    """Law 16: a statement is written exactly as docs/formats.md says."""
    body = """{
  "action": "restore-policy",
  "approver": null,
  "expires": "2026-01-09T03:04:05.000678+00:00",
  "installation": "0199f1c2",
  "keys": [
    {
      "fingerprint": "f1",
      "slot": "a",
      "uri": "local://v/k",
      "version": "1"
    }
  ],
  "policy": {
    "generation": 3,
    "id": "p1",
    "name": "main"
  },
  "purge": {
    "certificate_key": "f4",
    "contact": "dpo@acme.example",
    "wait_seconds": 259200
  },
  "reason": "caf\\u00e9",
  "request": "r1",
  "requested": "2026-01-02T03:04:05.000678+00:00",
  "tenant": "acme",
  "tenant_id": "t1"
}
"""
    statement = replace(FULL, keys=FULL.keys[:1], approver=None, reason="café")

    assert b"twinlock.approval.restore-policy.v1\x00" + body.encode() == statement.encode()


def _changed(**fields: Any) -> bytes:
    label, _zero, body = FULL.encode().partition(b"\x00")
    return label + b"\x00" + (json.dumps({**json.loads(body), **fields}, indent=2, sort_keys=True) + "\n").encode()


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        FULL.body,
        FULL.encode()[:-1],
        FULL.encode() + b"\n",
        FULL.encode().replace(b"  ", b" ", 1),
        FULL.encode().replace(b"restore-policy.v1", b"add-approver.v1"),
        FULL.encode().replace(b"local:", b"\\u006cocal:", 1),
        FULL.encode().replace(b"+00:00", b"Z"),
        _changed(more=1),
        _changed(action="purge"),
        _changed(keys="a"),
        _changed(expires="soon"),
        _changed(reason="\ud83d"),
        b"x" * (MAX_BYTES + 1),
    ],
)
def test_law_16_one_way_to_write_it(encoded: bytes) -> None:
    """Law 16: bytes that say the same in any other way, or something else, are no statement."""
    with pytest.raises(BadStatement):
        parse(encoded)


@pytest.mark.parametrize(
    "fields",
    [
        {"reason": "\ud83d\ude00"},
        {"tenant": "\ud800"},
        {"policy": NamedPolicy("\udfff", "main", 1)},
        {"keys": (NewKey("a", "\udc80", "1", "f"),)},
        {"expires": datetime(2026, 1, 1)},  # noqa: DTZ001  # naive on purpose
        {"reason": "x" * (MAX_REASON + 1)},
    ],
)
def test_impossible(fields: dict[str, Any]) -> None:
    """Halves of characters, moments without a zone and endless reasons make no statement at all."""
    with pytest.raises(BadStatement):
        replace(PLAIN, **fields)


def test_law_16_separated_by_action() -> None:
    """Law 16: a signature for one action is void for another, and is one over exactly the printed bytes."""
    key, other = SigningKey.generate(), replace(PLAIN, action=Action.REMOVE_APPROVER)
    signature = key.sign(PLAIN.label, PLAIN.body)
    label, _zero, body = PLAIN.encode().partition(b"\x00")
    verify(key.public, label, body, signature)

    for label, body in ((other.label, PLAIN.body), (PLAIN.label, other.body), (other.label, other.body)):
        with pytest.raises(BadSignature):
            verify(key.public, label, body, signature)
