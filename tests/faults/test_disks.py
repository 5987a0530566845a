"""Disks that refuse, that cannot be read, that are full, and that forget bits."""

from __future__ import annotations

from tests.faults.conftest import Run
from tests.soak import bit_flips, disk_faults


def test_what_a_disk_refuses_goes_elsewhere_and_is_said_and_no_fsync_is_repeated(run: Run) -> None:
    figures = run(disk_faults.refusing_disks, 0.5)
    assert figures["faults"] == figures["of"] == figures["said"]
    assert figures["fsyncs repeated"] == 0


def test_images_restore_while_as_many_disks_as_may_be_lost_cannot_be_read(run: Run) -> None:
    figures = run(disk_faults.unreadable_disks, 0.5)
    assert figures["restored from the others"]


def test_disks_that_fill_up_in_the_middle_cost_nothing(run: Run) -> None:
    figures = run(disk_faults.full_disks, 0.5)
    assert figures["restored"] == figures["images acknowledged"]


def test_flipped_bits_are_found_and_repaired_and_never_copied(run: Run) -> None:
    figures = run(bit_flips.found_and_repaired, 1 / 5)
    assert figures["shares hit"] == figures["found and repaired"]
    assert figures["bad shares copied"] == 0
