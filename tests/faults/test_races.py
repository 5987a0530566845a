"""What two do at once to one image ends in a state that either order would give."""

from __future__ import annotations

from tests.faults.conftest import Run
from tests.soak import races


def test_two_producers_of_one_image_both_succeed(run: Run) -> None:
    assert run(races.two_producers, 6 / 100)["races"]


def test_an_image_that_is_stored_and_deleted_at_once_is_there_or_gone(run: Run) -> None:
    assert run(races.put_and_delete, 6 / 100)["in between"] == 0


def test_no_repair_brings_back_what_is_deleted(run: Run) -> None:
    assert run(races.repair_and_delete, 6 / 100)["came back"] == 0


def test_a_device_that_comes_back_while_its_shares_are_rebuilt_does_no_harm(run: Run) -> None:
    assert run(races.repair_and_return, 6 / 100)["devices with two shares"] == 0
