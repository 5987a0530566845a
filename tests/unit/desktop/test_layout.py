"""A name that is too long is cut in its middle, and never to more than there is room for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from desktop.model.layout import column_widths, fitting, top_to_show


def test_what_fits_stays_as_it_is_and_what_does_not_keeps_its_end() -> None:
    assert fitting("rocket.jpg", 10, len) == "rocket.jpg"
    assert fitting("Familienzusammenkunft 2041.jpg", 20, len) == "Familienzus…2041.jpg"
    assert fitting("Küchenschrank", 8, len) == "Küchens…"


@given(st.text(min_size=1, max_size=200), st.integers(10, 100))
def test_it_takes_no_more_than_there_is_and_begins_as_the_name_does(text: str, room: int) -> None:
    cut = fitting(text, room, len)
    assert len(cut) <= room
    assert cut == text or (len(text) > room and cut[0] == text[0] and "…" in cut)


def test_columns_that_stretch_share_what_room_there_is_so_that_none_is_cut() -> None:
    wanted, stretching = [190, 80, 210], [True, False, True]
    assert column_widths(wanted, stretching, 360) == [133, 80, 147]
    assert sum(column_widths(wanted, stretching, 360)) == 360
    assert column_widths(wanted, stretching, 880) == [380, 80, 420]
    assert column_widths(wanted, stretching, 40) == [0, 80, 0]


def test_what_gets_the_focus_comes_into_sight_and_what_is_in_sight_stays() -> None:
    assert top_to_show((30, 60), 0, 100) == 0
    assert top_to_show((90, 130), 0, 100) == 30
    assert top_to_show((30, 60), 50, 100) == 30
    assert top_to_show((30, 400), 0, 100) == 30, "of what is higher than the window its beginning"
