"""A name that is too long is cut in its middle, and never to more than there is room for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from desktop.model.fitting import fitting


def test_what_fits_stays_as_it_is_and_what_does_not_keeps_its_end() -> None:
    assert fitting("rocket.jpg", 10, len) == "rocket.jpg"
    assert fitting("Familienzusammenkunft 2041.jpg", 20, len) == "Familienzus…2041.jpg"
    assert fitting("Küchenschrank", 8, len) == "Küchens…"


@given(st.text(min_size=1, max_size=200), st.integers(10, 100))
def test_it_takes_no_more_than_there_is_and_begins_as_the_name_does(text: str, room: int) -> None:
    cut = fitting(text, room, len)
    assert len(cut) <= room
    assert cut == text or (len(text) > room and cut[0] == text[0] and "…" in cut)
