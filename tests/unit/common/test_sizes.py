"""Sizes: what people write is understood, what is no size is refused."""

from __future__ import annotations

from fractions import Fraction

import pytest

from common.errors import UsageError
from common.text import parse_part, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1000", 1000),
        ("50M", 50_000_000),
        ("500G", 500 * 10**9),
        ("1.5T", 1_500_000_000_000),
        ("200MiB", 200 * 2**20),
        ("4KiB", 4096),
        (" 2 gb ", 2 * 10**9),
        ("3k", 3000),
    ],
)
def test_a_size_is_understood_as_people_write_it(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1", "1,5G", "5X", "1e9", "five", "I", "5I", "5 G B"])
def test_what_is_no_size_is_refused_in_words(text: str) -> None:
    with pytest.raises(UsageError, match="is not a size"):
        parse_size(text)


@pytest.mark.parametrize(("text", "part"), [("90%", Fraction(9, 10)), (" 2.5 % ", Fraction(1, 40)), ("100%", 1)])
def test_a_part_is_a_percentage(text: str, part: Fraction) -> None:
    assert parse_part(text) == part


@pytest.mark.parametrize("text", ["", "90", "%", "0%", "100.1%", "-1%", "1e2%", "9 0%", "50%G"])
def test_what_is_no_part_is_refused_in_words(text: str) -> None:
    with pytest.raises(UsageError, match="write it like 90%"):
        parse_part(text)
