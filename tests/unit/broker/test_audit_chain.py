"""The audit log's chain: whatever is changed, taken out or put in is found, and what is whole is called so."""

from __future__ import annotations

import json
from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.audit_chain import FIRST, chained, check, digest_of
from common.errors import IntegrityError

_RECORDS = st.lists(st.dictionaries(st.sampled_from(["event", "name", "by"]), st.text()), min_size=3, max_size=8)


def content(lines: list[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def refused(lines: list[bytes], *, from_start: bool = True, includes: Optional[str] = None) -> bool:
    try:
        check([("audit.jsonl", content(lines))], from_start=from_start, includes=includes)
    except IntegrityError:
        return True
    return False


@pytest.mark.one_python
@given(_RECORDS, st.data())
def test_a_whole_chain_is_whole_wherever_its_files_end(records: list[dict[str, str]], data: st.DataObject) -> None:
    lines = chained(records, FIRST)
    cut = data.draw(st.integers(0, len(lines)))
    chain = check([("a", content(lines[:cut])), ("b", content(lines[cut:]))], from_start=True)
    assert (chain.lines, chain.digest) == (len(lines), digest_of(lines[-1]))
    for line in lines:
        assert not refused(lines, includes=digest_of(line))
    begun_later = lines[data.draw(st.integers(0, len(lines) - 1)) :]
    assert not refused(begun_later, from_start=False)


@given(_RECORDS, st.data())
def test_a_line_that_is_changed_taken_out_put_in_or_moved_is_found(
    records: list[dict[str, str]], data: st.DataObject
) -> None:
    lines = chained(records, FIRST)
    at = data.draw(st.integers(0, len(lines) - 2))  # what follows the last line is not there to tell
    entry = {**json.loads(lines[at]), "name": "someone else's, forged"}
    assert refused([*lines[:at], json.dumps(entry).encode(), *lines[at + 1 :]])
    assert refused([*lines[:at], *lines[at + 1 :]])
    assert refused([*lines[: at + 1], *chained([{"event": "put in"}], digest_of(lines[at])), *lines[at + 1 :]])
    assert refused([*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]])


@given(_RECORDS)
def test_what_was_cut_off_the_end_or_forged_from_there_on_a_noted_digest_tells(records: list[dict[str, str]]) -> None:
    lines = chained(records, FIRST)
    noted = digest_of(lines[-1])
    assert refused(lines[:-1], includes=noted)
    assert refused([*lines[:-1], *chained([{"event": "forged"}], digest_of(lines[-2]))], includes=noted)


def test_a_chain_without_its_beginning_is_refused_where_the_beginning_must_be_there() -> None:
    lines = chained([{"event": "a"}, {"event": "b"}], FIRST)
    assert refused(lines[1:])
    assert not refused(lines[1:], from_start=False)


@pytest.mark.parametrize("junk", [b"", b"{}", b"[1]", b"\xff", b'{"previous": 1}', b"[" * 100_000])
def test_what_is_no_line_is_named_with_file_and_line(junk: bytes) -> None:
    lines = chained([{"event": "a"}, {"event": "b"}], FIRST)
    with pytest.raises(IntegrityError, match=r"audit\.jsonl, line 2: this is no line"):
        check([("audit.jsonl", content([lines[0], junk, lines[1]]))], from_start=True)
