"""Whatever is killed with -9, and whenever: what was acknowledged is there."""

from __future__ import annotations

from tests.faults.conftest import Run
from tests.soak import kill_points


def test_workers_killed_at_random_moments_lose_nothing_that_was_acknowledged(run: Run) -> None:
    figures = run(kill_points.workers_at_random, 10 / 200)
    assert figures["kills"] == 10
    assert figures["images lost"] == 0


def test_a_worker_killed_at_any_call_of_a_put_loses_nothing_that_was_acknowledged(run: Run) -> None:
    figures = run(kill_points.every_call, 0.5)
    assert figures["kills"] == figures["of"] == 5
    assert figures["images lost"] == 0


def test_what_killed_producers_had_reported_is_stored(run: Run) -> None:
    assert run(kill_points.producers, 5 / 60)["images lost"] == 0


def test_a_broker_killed_at_random_moments_loses_nothing(run: Run) -> None:
    figures = run(kill_points.brokers, 4 / 40)
    assert figures["kills"] == 4
    assert figures["images lost"] == 0


def test_a_repair_that_is_killed_costs_no_intact_share(run: Run) -> None:
    figures = run(kill_points.stewards, 3 / 40)
    assert figures["kills"]
    assert figures["encodings that lost an intact share"] == 0
