"""Hostile peers against real processes: the proofs of `tests/soak`, shorter."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Callable

import pytest

from tests.soak import aborts, fuzzing, hostile_schedules, lane_attacks, strangers
from tests.soak.proof import Figures, Terms

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes as only Linux shows them")
SEED = 1


SCHEDULES = 50  # of each of the four parts, which run side by side
BROKER_SCHEDULES = 10


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Figures]:
    return lambda proof, scale, seed=SEED: proof(Terms(seed, tmp_path, 600.0, scale))


def test_a_supervised_broker_aborted_in_mid_put_is_back_and_nothing_is_lost(
    run: Callable[..., Figures],
) -> None:
    figures = run(aborts.aborted_broker, 2 / 40)
    assert figures["ends"] == 2
    assert float(figures["back after s, longest"]) < 10, "two seconds, on a machine that does nothing else"


def test_a_message_without_end_costs_a_restart_and_nothing_that_was_acknowledged(
    run: Callable[..., Figures],
) -> None:
    figures = run(aborts.endless_message, 1 / 10)
    assert int(figures["broker's most MiB"]) < 384
    assert float(figures["back after s, longest"]) < 10


def test_mutated_messages_end_no_broker_and_it_serves_on(run: Callable[..., Figures]) -> None:
    figures = run(fuzzing.fuzzed_broker, 0.05)
    assert int(figures["messages by members"]) >= 500
    assert int(figures["of these on lanes"]) >= 100
    assert int(figures["answered there"]) > 0


def test_mutated_messages_of_its_own_broker_end_no_worker(run: Callable[..., Figures]) -> None:
    assert run(fuzzing.fuzzed_worker, 0.2)["messages"] == 2000


def test_garbage_on_a_lane_by_its_member_or_a_thief_ends_that_lane_only(run: Callable[..., Figures]) -> None:
    figures = run(lane_attacks.garbled_lanes, 0.1)
    assert (figures["lanes garbled"], figures["tokens stolen"]) == (40, 10)


def test_asking_for_lanes_without_end_takes_neither_memory_nor_service(run: Callable[..., Figures]) -> None:
    assert int(run(lane_attacks.asks_without_end, 0.1)["asks"]) >= 4000


def test_a_worker_that_is_lied_to_about_lanes_is_neither_lost_nor_busy(run: Callable[..., Figures]) -> None:
    assert run(lane_attacks.lies_to_a_worker, 1.0)["lies"] == 9


def test_a_client_that_is_lied_to_about_lanes_goes_on_by_another_broker(run: Callable[..., Figures]) -> None:
    assert run(lane_attacks.lies_to_a_client, 1.0)["lies"] == 9


def test_eight_clients_that_flood_a_stopped_device_take_neither_memory_nor_service(
    run: Callable[..., Figures],
) -> None:
    assert int(run(strangers.flooded_device, 1 / 5)["broker's most MiB"]) < 384


def test_half_open_connections_and_strangers_hardly_slow_an_honest_put(run: Callable[..., Figures]) -> None:
    assert float(run(strangers.half_open_connections, 1 / 5)["slower by %"]) < 200, "under 20 on a quiet machine"


@pytest.mark.parametrize("first", range(1, 1 + 4 * SCHEDULES, SCHEDULES))
def test_members_that_lie_harm_nobody_else(run: Callable[..., Figures], first: int) -> None:
    figures = run(hostile_schedules.hostile_members, SCHEDULES / hostile_schedules.SCHEDULES, first)
    assert figures["schedules"] == SCHEDULES


def test_a_broker_that_lies_makes_no_wrong_file_and_loses_nothing(run: Callable[..., Figures]) -> None:
    figures = run(hostile_schedules.lying_broker, BROKER_SCHEDULES / hostile_schedules.BROKER_SCHEDULES)
    assert figures["schedules"] == BROKER_SCHEDULES
