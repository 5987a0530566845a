"""Proof: every parser of what others may have written, fed with mutants for a minute each.

Promised: whatever it is given, a parser returns or raises the error that it documents, and nothing else; and it
allocates no more than a hundredfold of its input and two mebibytes.

The mutants come from the seed alone, the same for each parser whatever the others do. How they are made is in
`tests/support/mutation.py`, which parsers there are in `tests/support/parsers.py`. The headers of all messages count as
one.
"""

from __future__ import annotations

import logging
import random
import sys
import time
import tracemalloc
from collections.abc import Sequence

from tests.soak.proof import Figures, Part, Terms, main
from tests.support.parsers import Parser, parsers

_SECONDS = 60.0  # for each parser


def returns_or_raises_what_it_says(terms: Terms) -> Figures:
    """Feed each parser in turn, for a minute or its part of the time there is."""
    groups: dict[str, list[Parser]] = {}
    for parser in parsers(terms.folder):
        groups.setdefault("headers" if parser.name.startswith("header ") else parser.name, []).append(parser)
    seconds = min(_SECONDS * terms.scale, terms.seconds / len(groups))
    figures: Figures = {"parsers": len(groups), "seconds each": round(seconds, 1)}
    logging.disable()
    tracemalloc.start()
    try:
        met = {name: _feed(group, seconds, terms.seed) for name, group in groups.items()}
    finally:
        tracemalloc.stop()
        logging.disable(logging.NOTSET)
    figures["mutants"] = sum(count for count, _ in met.values())
    figures["fewest"] = "{} of {}".format(*min((count, name) for name, (count, _) in met.items()))
    figures["most memory KiB"] = max(peak for _, peak in met.values()) // 1024
    return figures


def _feed(group: Sequence[Parser], seconds: float, seed: int) -> tuple[int, int]:
    """How many mutants the parsers met, and the most bytes that one of these made a parser allocate."""
    drawn = random.Random(f"{seed} {group[0].name}")
    end = time.monotonic() + seconds
    met = most = 0
    while not met or time.monotonic() < end:
        most = max(most, group[met % len(group)].meet(drawn))
        met += 1
    return met, most


PARTS = [Part("parsers", returns_or_raises_what_it_says, 1)]

if __name__ == "__main__":
    sys.exit(main([PARTS], "Every parser, fed with mutants."))
