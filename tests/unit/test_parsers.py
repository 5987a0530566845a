"""Every parser, fed with mutants: it returns or raises what it is documented to raise, and takes little memory.

Seconds here; minutes in tests/soak/parsers.py.
"""

from __future__ import annotations

import logging
import random
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.parsers import parsers

SECONDS = 8.0  # for all of them
MUTANTS = 3000  # of each at most


@pytest.fixture(autouse=True)
def memory_is_watched_and_logs_are_quiet() -> Iterator[None]:
    tracemalloc.start()
    logging.disable()
    yield
    logging.disable(logging.NOTSET)
    tracemalloc.stop()


def test_every_parser_reads_what_is_valid(tmp_path: Path) -> None:
    for parser in parsers(tmp_path):
        parser.check_valid()


def test_every_parser_returns_or_raises_what_it_says_within_bounded_memory(tmp_path: Path) -> None:
    every = parsers(tmp_path)
    for parser in every:
        end = time.monotonic() + SECONDS / len(every)
        drawn = random.Random(parser.name)  # noqa: S311  # the same mutants each time
        met = 0
        while not met or (met < MUTANTS and time.monotonic() < end):
            parser.meet(drawn)
            met += 1
