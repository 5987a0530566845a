"""What a proof is: a function that does harm within terms, asserts what is promised, and returns its figures.

The terms are a seed and an end. What is drawn at random comes from the seed alone, so a run that fails is run again
with the same seed; how the processes interleave is the machine's, and no seed fixes that.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, NamedTuple, Union

from cluster.interruption import interruptible

Figure = Union[int, float, str]
Figures = dict[str, Figure]


@dataclass
class Terms:
    """A proof's randomness, the folder it may fill, and how long it may go on beginning things.

    Args:
        seed: of all that it draws.
        seconds: after which it begins nothing more; it then still checks what it did.
        scale: what part of the issue's numbers (200 kills, 1,000 operations, 100 races) it aims at.
    """

    seed: int
    folder: Path
    seconds: float
    scale: float = 1.0
    random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self._end = time.monotonic() + self.seconds

    def goal(self, number: int) -> int:
        """The issue's number, scaled; at least one."""
        return max(1, round(number * self.scale))

    def part(self, name: str, share: float) -> Terms:
        """Terms for a part of a proof, with its own randomness and a share of the time."""
        folder = self.folder / name
        folder.mkdir(parents=True)
        return Terms(self.random.randrange(2**32), folder, self.seconds * share, self.scale)

    @property
    def time_left(self) -> bool:
        return time.monotonic() < self._end


Prove = Callable[[Terms], Figures]


class Part(NamedTuple):
    """One part of a proof, and the share of the proof's time that it gets."""

    name: str
    prove: Prove
    share: float


class Verdict(NamedTuple):
    """What came of a proof."""

    name: str
    holds: bool
    seconds: float
    figures: Mapping[str, Figure]

    def line(self) -> str:
        figures = ", ".join(f"{name} {value}" for name, value in self.figures.items())
        return f"{'ok  ' if self.holds else 'FAIL'} {self.name} ({self.seconds:.0f} s): {figures}"


def hold_for(seconds: float) -> None:
    """Leave a process stopped, or a network cut, for so long: here the waiting itself is what is tested."""
    threading.Event().wait(seconds)


def judge(parts: Sequence[Part], seed: int, seconds: float, folder: Path) -> list[Verdict]:
    """Run the parts of a proof one after the other, print a line for each, and go on behind one that fails."""
    total = sum(part.share for part in parts)
    terms = Terms(seed, folder, seconds)
    verdicts = []
    for part in parts:
        own = terms.part(part.name.replace(" ", "-"), part.share / total)
        started = time.monotonic()
        figures: Mapping[str, Figure]
        try:
            figures, holds = part.prove(own), True
        except Exception as error:  # a proof that fails, by whatever, must not keep the others from running
            traceback.print_exc()
            _show_logs(own.folder)
            figures, holds = {"seed": seed, "why": f"{type(error).__name__}: {error}"[:2000]}, False
        verdicts.append(Verdict(part.name, holds, round(time.monotonic() - started, 1), figures))
        print(verdicts[-1].line(), flush=True)
    return verdicts


def _show_logs(folder: Path) -> None:
    """The ends of what the programs of a proof that failed said."""
    for log in sorted(folder.glob("**/logs/*.log")):
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-12:]
        print(f"--- {log.name}", *lines, sep="\n", file=sys.stderr)


def main(parts: Sequence[Part], about: str, arguments: Sequence[str] | None = None) -> int:
    """The command line of a proof that runs alone; returns the exit code: 1 where one does not hold."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=10.0, help="after which nothing more is begun")
    parser.add_argument("--only", help="parts whose name contains this")
    parser.add_argument("--report", type=Path, help="file for the figures, as JSON")
    options = parser.parse_args(arguments)
    chosen = [part for part in parts if options.only is None or options.only in part.name]
    with interruptible(), tempfile.TemporaryDirectory(prefix="tessera-soak-") as scratch:
        verdicts = judge(chosen, options.seed, options.minutes * 60, Path(scratch))
    if options.report is not None:
        report = {
            "seed": options.seed,
            "minutes": options.minutes,
            "python": sys.version.split()[0],
            "platform": sys.platform,
            "proofs": [{**verdict._asdict(), "figures": dict(verdict.figures)} for verdict in verdicts],
        }
        options.report.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0 if all(verdict.holds for verdict in verdicts) else 1
