"""What a proof is: a function that does harm within terms, asserts what is promised, and returns its figures.

The terms are a seed and an end. What is drawn at random comes from the seed alone, so a run that fails is run again
with the same seed; how the processes interleave is the machine's, and no seed fixes that.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, NamedTuple, Optional, Union

from cluster.interruption import interruptible
from cluster.local import stop_cluster

Figure = Union[int, float, str]
Figures = dict[str, Figure]


@dataclass
class Terms:
    """A proof's randomness, the folder it may fill, and how long it may go on beginning things.

    `seed`: of all that it draws. `seconds`: after which it begins nothing more; it then still checks what it did.
    `scale`: what part of the full numbers (200 kills, 1,000 operations, 100 races) it aims at.
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


class Judgement:
    """Runs the parts of proofs, one lane beside the other, and keeps the verdicts."""

    def __init__(self, seed: int, seconds: float, folder: Path) -> None:
        self.verdicts: list[Verdict] = []
        self._seed, self._seconds, self._folder = seed, seconds, folder

    def run(self, lanes: Sequence[Sequence[Part]]) -> None:
        """Run every lane to its end; on an interruption end all clusters and give up."""
        threads = [threading.Thread(target=self._run_lane, args=(lane,), daemon=True) for lane in lanes]
        try:
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                for thread in threads:
                    thread.join(0.5)
        except BaseException:
            for folder in self._folder.glob("*/cluster"):
                stop_cluster(folder)
            raise

    def _run_lane(self, parts: Sequence[Part]) -> None:
        total = sum(part.share for part in parts)
        for part in parts:
            folder = self._folder / part.name.replace(" ", "-")
            folder.mkdir()
            self._judge(part, Terms(self._seed, folder, self._seconds * part.share / total))

    def _judge(self, part: Part, terms: Terms) -> None:
        started = time.monotonic()
        figures: Mapping[str, Figure]
        try:
            figures, holds = part.prove(terms), True
        except Exception as error:  # a proof that fails, by whatever, must not keep the others from running
            traceback.print_exc()
            _show_logs(terms.folder)
            figures, holds = {"seed": self._seed, "why": f"{type(error).__name__}: {error}"[:2000]}, False
        self.verdicts.append(Verdict(part.name, holds, round(time.monotonic() - started, 1), figures))
        print(self.verdicts[-1].line(), flush=True)
        shutil.rmtree(terms.folder, ignore_errors=True)


def _show_logs(folder: Path) -> None:
    """The ends of what the programs of a proof that failed said."""
    for log in sorted(folder.glob("**/logs/*.log")):
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-12:]
        print(f"--- {log.name}", *lines, sep="\n", file=sys.stderr)


def main(lanes: Sequence[Sequence[Part]], about: str, arguments: Optional[Sequence[str]] = None) -> int:
    """The command line of one proof, or of all; returns the exit code: 1 where one does not hold.

    The parts of a lane run one after the other, each within its share of the time; lanes run side by side.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=10.0, help="after which nothing more is begun")
    parser.add_argument("--only", help="parts whose name contains this")
    parser.add_argument("--report", type=Path, help="file for the figures, as JSON")
    options = parser.parse_args(arguments)
    chosen = [[part for part in lane if options.only is None or options.only in part.name] for lane in lanes]
    with interruptible(), tempfile.TemporaryDirectory(prefix="tessera-soak-") as scratch:
        judgement = Judgement(options.seed, options.minutes * 60, Path(scratch))
        judgement.run(chosen)
    if options.report is not None:
        report = {
            "seed": options.seed,
            "minutes": options.minutes,
            "python": sys.version.split()[0],
            "platform": sys.platform,
            "proofs": [{**verdict._asdict(), "figures": dict(verdict.figures)} for verdict in judgement.verdicts],
        }
        options.report.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0 if all(verdict.holds for verdict in judgement.verdicts) else 1
