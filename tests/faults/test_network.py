"""Messages lost, doubled, delayed and reordered; processes that hang; a cut network; wrong clocks."""

from __future__ import annotations

import sys

import pytest

from tests.faults.conftest import Run
from tests.soak import lossy_network, stopped_and_cut

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGSTOP")


def test_no_wrong_byte_and_no_endless_program_where_a_tenth_of_messages_is_lost(run: Run) -> None:
    figures = run(lossy_network.lossy, 24 / 1000)
    assert int(figures["operations"]) >= 24
    assert figures["wrong bytes"] == 0


def test_stopped_processes_lose_nothing_and_are_back_in_step_within_ten_seconds(run: Run) -> None:
    figures = run(stopped_and_cut.stopped_processes, 4 / 30)
    assert figures["images lost"] == 0


def test_a_network_cut_in_two_loses_nothing_and_is_back_in_step_within_ten_seconds(run: Run) -> None:
    figures = run(stopped_and_cut.partition, 8 / 30)
    assert figures["images lost"] == 0


def test_clocks_ten_years_off_lose_nothing(run: Run) -> None:
    assert run(stopped_and_cut.wrong_clocks, 0.5)["images lost"] == 0
