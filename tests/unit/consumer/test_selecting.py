"""Selecting: by hashes from stdin, by name as shells have it, by when an image was taken as it tells it."""

from __future__ import annotations

import io
from typing import Optional

import msgspec
import pytest

from common.errors import NotFoundError, UsageError
from common.facts import Facts
from common.vault.mapping import Mapping
from consumer.selecting import Selection, parse_hashes, parse_period, read_hashes
from tests.support.sample_images import encode

PLAIN = encode(b"content").trusted().mapping


def image(name: str = "IMG_1.JPG", taken_at: Optional[str] = None) -> Mapping:
    facts = None if taken_at is None else Facts(taken_at)
    return msgspec.structs.replace(PLAIN, name=name, facts=facts)


@pytest.mark.parametrize(
    ("period", "within", "outside"),
    [
        (
            "2019..2020",
            ["2019-01-01T00:00:00", "2020-12-31T23:59:59+14:00"],
            ["2018-12-31T23:59:59", "2021-01-01T00:00:00"],
        ),
        (
            "2019-06..2019-08-15",
            ["2019-06-01T00:00:00", "2019-08-15T23:59:59"],
            ["2019-05-31T23:59:59", "2019-08-16T00:00:00"],
        ),
        (
            "2019-07-14",
            ["2019-07-14T00:00:00", "2019-07-14T23:59:59-03:30"],
            ["2019-07-13T23:59:59", "2019-07-15T00:00:00"],
        ),
        ("2019..", ["2019-01-01T00:00:00", "9999-12-31T23:59:59"], ["2018-12-31T23:59:59"]),
        ("..2019", ["0001-01-01T00:00:00", "2019-12-31T23:59:59"], ["2020-01-01T00:00:00"]),
        ("2019-07-14T18..2019-07-14T18:30", ["2019-07-14T18:00:00", "2019-07-14T18:30:59"], ["2019-07-14T18:31:00"]),
    ],
)
def test_both_bounds_of_a_period_are_within_it(period: str, within: list[str], outside: list[str]) -> None:
    selection = Selection(taken=parse_period(period))
    assert all(selection.takes(image(taken_at=moment)) for moment in within)
    assert not any(selection.takes(image(taken_at=moment)) for moment in outside)
    assert not selection.takes(image()), "nobody knows when it was taken"


@pytest.mark.parametrize(
    "text", ["", "..", "yesterday", "2019-13", "2019-06-31..", "19", "2019...2020", "2020..2019", "2019-07..2019-06-30"]
)
def test_what_is_no_period_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_period(text)


def test_a_name_is_matched_as_shells_do_with_upper_and_lower_case() -> None:
    assert Selection("IMG_*.JPG").takes(image())
    assert Selection("IMG_[0-9].JPG").takes(image())
    assert not Selection("img_*.jpg").takes(image())
    assert not Selection("IMG").takes(image())


def test_those_that_do_not_tell_when_they_were_taken_are_counted_where_that_is_asked() -> None:
    images = [image(), image("b.png"), image(taken_at="2019-07-14T18:03:22")]
    assert Selection(taken=parse_period("2019")).undated(images) == 2
    assert Selection("*.JPG", parse_period("2019")).undated(images) == 1
    assert Selection("*.JPG").undated(images) == 0


def test_what_selects_nothing_takes_everything() -> None:
    assert Selection().takes(image())
    assert not Selection()
    assert Selection("*")


# --- hashes from stdin

WHOLE, SHORT = "c2" * 32, "0123abcd"


def test_a_line_begins_with_a_hash_and_may_have_its_name_behind_it() -> None:
    lines = [WHOLE, "", f"{SHORT.upper()}\r", f"{WHOLE[::-1]}  a name.jpg", f"\\{SHORT}  escaped\\nname.jpg", "  "]
    assert parse_hashes(lines).hashes == [WHOLE, SHORT, WHOLE[::-1], SHORT]
    assert parse_hashes(lines).errors == []


def test_each_line_without_a_hash_is_named_by_its_number() -> None:
    found = parse_hashes([WHOLE, "no hash", SHORT, "0123"])
    assert found.hashes == [WHOLE, SHORT]
    said = [str(error).partition(" is ")[0] for error in found.errors]
    assert said == ["line 2 of stdin: 'no'", "line 4 of stdin: '0123'"]


def test_any_bytes_may_stand_behind_a_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    content = f"{SHORT}  ".encode() + b"\xff\x0b\x1c\x85.jpg\n" + WHOLE.encode()
    assert read_hashes_of(monkeypatch, content) == ([SHORT, WHOLE], 0)
    assert read_hashes_of(monkeypatch, b"\xff\n") == ([], 1)


def read_hashes_of(monkeypatch: pytest.MonkeyPatch, content: bytes) -> tuple[list[str], int]:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    found = read_hashes()
    return found.hashes, len(found.errors)


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_a_stdin_that_names_no_hash_is_an_error(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    with pytest.raises(NotFoundError, match="no hash is named"):
        read_hashes_of(monkeypatch, content)
