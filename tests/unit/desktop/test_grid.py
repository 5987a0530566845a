"""The grid: rows fill the width, only what is in sight is named, and a key never leaves the grid."""

from __future__ import annotations

from typing import Optional

import pytest

from desktop.model.layout import Grid

GRID = Grid(count=10, width=330, least=100, tile_height=50, gap=10)


def test_tiles_fill_the_width_beside_each_other() -> None:
    assert (GRID.columns, GRID.tile_width, GRID.rows, GRID.height) == (3, 103, 4, 230)
    assert [GRID.position(place) for place in (0, 2, 3)] == [(0, 0), (226, 0), (0, 60)]
    assert Grid(10, 20, 100, 50, 10).columns == 1


def test_only_rows_that_are_seen_whole_or_in_part_are_in_sight() -> None:
    assert GRID.in_sight(0, 50) == range(0, 3)
    assert GRID.in_sight(49, 12) == range(0, 6)
    assert GRID.in_sight(61, 100) == range(3, 9)
    assert GRID.in_sight(180, 400) == range(9, 10)
    assert GRID.in_sight(9000, 400) == range(10, 10)
    assert Grid(0, 330, 100, 50, 10).in_sight(0, 400) == range(0, 0)


def test_however_many_tiles_there_are_those_in_sight_are_few() -> None:
    many = Grid(1_000_000, 330, 100, 50, 10)
    assert len(many.in_sight(5_000_000, 600)) <= 3 * (600 // 60 + 2)


@pytest.mark.parametrize(
    ("point", "place"),
    [((0, 0), 0), ((102, 49), 0), ((105, 10), None), ((10, 55), None), ((120, 70), 4), ((250, 200), None)],
)
def test_a_point_is_in_the_tile_that_is_drawn_there(point: tuple[int, int], place: Optional[int]) -> None:
    assert GRID.place_at(*point) == place


def test_a_step_stays_within_the_grid() -> None:
    assert GRID.moved(None, 3) == 0
    assert GRID.moved(8, 3) == 9
    assert GRID.moved(1, -3) == 0
    assert Grid(0, 330, 100, 50, 10).moved(None, 1) is None


def test_a_tile_that_is_asked_for_comes_into_sight_whole_and_what_is_in_sight_stays() -> None:
    assert GRID.top_to_show(0, 40, 100) == 0
    assert GRID.top_to_show(9, 0, 100) == 130
    assert GRID.top_to_show(3, 60, 100) == 60
