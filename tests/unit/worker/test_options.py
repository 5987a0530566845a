"""How times are written in options."""

from __future__ import annotations

import pytest

from common.errors import UsageError
from common.text import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("15m", 900), ("12h", 43200), ("7d", 604800), (" 1.5 H ", 5400), ("0.5s", 0.5)]
)
def test_a_time_is_written_with_its_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0s", "7", "-1d", "1w", "d", "1d2h", "nan s", "1e3s"])
def test_what_is_no_time_is_refused_and_so_is_none_at_all(text: str) -> None:
    with pytest.raises(UsageError, match="30s"):
        parse_duration(text)
