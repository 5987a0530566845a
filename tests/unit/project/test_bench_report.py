"""The tables that the bench prints."""

from __future__ import annotations

from typing import Optional

from bench.metering import Cost, Measured
from bench.report import (
    GET,
    GET_TWO_DEAD,
    ONE_PHOTO,
    PUT,
    YARDSTICK,
    Run,
    as_json,
    costs_table,
    from_json,
    moments_table,
    rates_table,
)

MB, MIB = 1_000_000, 1 << 20


def run(
    contender: str,
    seconds: float,
    what: str = PUT,
    behind: Optional[dict[str, float]] = None,
    peak: int = 9 * MIB,
    workload: str = "a file",
) -> Run:
    behind = behind or {}
    measured = Measured(Cost(seconds, 2 * seconds, peak), behind, {name: 5 * MIB for name in behind})
    return Run(contender, workload, what, 100 * MB, 2, measured)


def test_a_rate_is_the_median_of_all_rounds_with_spread_and_multiple_of_scps() -> None:
    runs = [run("ours", seconds) for seconds in (2.0, 1.0, 4.0)] + [run(YARDSTICK, 1.0)]
    rows = rates_table(runs).splitlines()[2:]
    assert rows == [
        "| a file | put | ours | 50 (25 to 100) | 1 | 0.50 |",
        f"| a file | put | {YARDSTICK} | 100 (100 to 100) | 2 | 1.00 |",
    ]


def test_a_get_with_devices_dead_is_held_against_scps_get() -> None:
    runs = [run("ours", 0.5, GET_TWO_DEAD), run(YARDSTICK, 1.0, GET), run(YARDSTICK, 9.0, PUT)]
    assert rates_table(runs).splitlines()[2].endswith("| 200 (200 to 200) | 4 | 2.00 |")


def test_without_scp_there_is_no_multiple() -> None:
    assert rates_table([run("ours", 1.0)]).splitlines()[2].endswith("| – |")


def test_costs_are_processor_nanoseconds_per_image_byte_of_each_process() -> None:
    runs = [run("ours", 0.1, behind={"broker": 0.3, "workers": 0.5}), run(YARDSTICK, 1.0)]
    assert costs_table(runs).splitlines()[2:] == ["| a file | put | ours | 2.00 | 3.00 | 5.00 | 10.00 | 9 | 5 | 5 |"]


def test_what_one_photo_takes_is_told_in_milliseconds_and_nowhere_else() -> None:
    puts = [run("ours", seconds, workload=ONE_PHOTO, behind={"broker": 1, "workers": 1}) for seconds in (0.2, 0.1, 0.4)]
    runs = [*puts, run("ours", 0.05, GET, workload=ONE_PHOTO)]
    assert moments_table(runs).splitlines()[2:] == ["| ours | 200 (100 to 400) | 50 (50 to 50) |"]
    assert rates_table(runs).splitlines()[2:] == costs_table(runs).splitlines()[2:] == []


def test_each_run_is_told_as_json() -> None:
    (told,) = as_json([run("ours", 0.5, behind={"broker": 0.25})])
    assert told["seconds"] == 0.5
    assert told["bytes"] == 100 * MB
    assert told["processor_seconds"] == {"client": 1.0, "broker": 0.25}
    assert told["peak_bytes"] == {"client": 9 * MIB, "broker": 5 * MIB}


def test_runs_are_read_back_from_json() -> None:
    runs = [run("ours", 0.5, behind={"broker": 0.25}), run(YARDSTICK, 1.0, GET)]
    assert from_json(as_json(runs)) == runs
